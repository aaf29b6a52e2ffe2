import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { program } from '../../deploy/sandbox/packages.ts';
import { RunningProcess } from '../../deploy/sandbox/process.ts';

const PATIENCE = 20_000;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly sessionId?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly message: string };
}

/** Debian's Chromium without a screen, spoken to by the DevTools protocol. */
export interface Chromium extends AsyncDisposable {
  /** Opens a tab with nothing in it. */
  tab(): Promise<Tab>;
}

/** A tab, and all that went wrong or was asked for in it since it was opened. */
export interface Tab {
  /** Errors and warnings of the console, exceptions, and what a policy has blocked. */
  readonly complaints: readonly string[];
  /** Addresses that were asked for. */
  readonly requests: readonly string[];
  send(method: string, params?: object): Promise<Readonly<Record<string, unknown>>>;
  /** Loads an address and waits until all of it is there. */
  open(url: string): Promise<void>;
  /** The value of an expression in the page. */
  value<T>(expression: string): Promise<T>;
}

/** Starts it with a profile of its own, which goes with it. */
export async function startChromium(): Promise<Chromium> {
  await using stack = new AsyncDisposableStack();
  const profile = stack.use(await temporaryFolder());
  const browser = stack.use(
    await RunningProcess.start({
      name: 'chromium',
      command: program('chromium'),
      args: [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync'],
        ...[
          '--disable-background-networking',
          '--disable-component-update',
          '--disable-breakpad',
          '--disable-dev-shm-usage',
        ],
        ...[`--user-data-dir=${join(profile.path, 'profile')}`, '--remote-debugging-port=0', 'about:blank'],
      ],
      env: { HOME: profile.path, TMPDIR: profile.path, XDG_CONFIG_HOME: profile.path, XDG_CACHE_HOME: profile.path },
    }),
  );
  const found = await browser.waitUntil('the port of DevTools', async () => {
    const text = await readFile(join(profile.path, 'profile', 'DevToolsActivePort'), 'utf8').catch(() => '');
    return /^(\d+)\n(\/\S+)/.exec(text) ?? undefined;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${found[1]}${found[2]}`);
  stack.defer(() => socket.close());
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  socket.addEventListener('open', () => resolve());
  socket.addEventListener('error', () => reject(new Error('DevTools does not answer')));
  await opened;
  const wire = new Wire(socket);
  const owned = stack.move();
  return { tab: async () => await openTab(wire), [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Commands and their answers, and who wants to hear of what happens in a tab. */
class Wire {
  readonly listeners = new Map<string, (message: Message) => void>();
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, PromiseWithResolvers<Readonly<Record<string, unknown>>>>();
  #last = 0;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#hear(JSON.parse(String(data)) as Message));
    socket.addEventListener('close', () => {
      for (const { reject } of this.#answers.values()) reject(new Error('the browser has gone'));
    });
  }

  async send(method: string, params: object, sessionId?: string): Promise<Readonly<Record<string, unknown>>> {
    const id = ++this.#last;
    const answer = Promise.withResolvers<Readonly<Record<string, unknown>>>();
    this.#answers.set(id, answer);
    const timer = setTimeout(() => answer.reject(new Error(`${method}: no answer`)), PATIENCE);
    this.#socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    try {
      return await answer.promise;
    } finally {
      clearTimeout(timer);
      this.#answers.delete(id);
    }
  }

  #hear(message: Message): void {
    if (message.id === undefined) {
      this.listeners.get(message.sessionId ?? '')?.(message);
      return;
    }
    const answer = this.#answers.get(message.id);
    if (message.error === undefined) answer?.resolve(message.result ?? {});
    else answer?.reject(new Error(message.error.message));
  }
}

async function openTab(wire: Wire): Promise<Tab> {
  const { targetId } = await wire.send('Target.createTarget', { url: 'about:blank' });
  const session = String((await wire.send('Target.attachToTarget', { targetId, flatten: true }))['sessionId']);
  const send = async (method: string, params: object = {}) => await wire.send(method, params, session);
  const complaints: string[] = [];
  const requests: string[] = [];
  let loaded = Promise.withResolvers<void>();
  wire.listeners.set(session, ({ method, params }) => {
    const said = JSON.stringify(params);
    const { entry, type, request } = (params ?? {}) as {
      entry?: { level: string };
      type?: string;
      request?: { url: string };
    };
    if (method === 'Page.loadEventFired') loaded.resolve();
    if (method === 'Network.requestWillBeSent') requests.push(request?.url ?? '');
    const isBad =
      method === 'Runtime.exceptionThrown' ||
      (method === 'Log.entryAdded' && (entry?.level === 'error' || entry?.level === 'warning')) ||
      (method === 'Runtime.consoleAPICalled' && (type === 'error' || type === 'warning' || type === 'assert'));
    if (isBad) complaints.push(said);
  });
  for (const domain of ['Page', 'Runtime', 'Log', 'Network', 'DOM']) await send(`${domain}.enable`);
  return {
    complaints,
    requests,
    send,
    open: async (url) => {
      loaded = Promise.withResolvers<void>();
      const timer = setTimeout(() => loaded.reject(new Error(`${url} is not loaded`)), PATIENCE);
      try {
        const { errorText } = await send('Page.navigate', { url });
        if (errorText !== undefined) throw new Error(`${url}: ${String(errorText)}`);
        await loaded.promise;
      } finally {
        clearTimeout(timer);
      }
    },
    value: async <T>(expression: string) => {
      const { result, exceptionDetails } = await send('Runtime.evaluate', {
        expression,
        returnByValue: true,
        awaitPromise: true,
      });
      if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
      return (result as { readonly value: T }).value;
    },
  };
}
