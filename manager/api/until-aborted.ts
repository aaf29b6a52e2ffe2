/**
 * What `source` gives until the signal aborts; then it ends, also while it waits for the next. (A race of promises in a loop would
 * keep a reaction on the signal's promise for every turn.)
 */
export async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, void> {
  const iterator = source[Symbol.asyncIterator]();
  let wake: ((end: undefined) => void) | undefined;
  const onAbort = () => wake?.(undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    while (!signal.aborted) {
      const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<T> | undefined>();
      wake = resolve;
      iterator.next().then(resolve, reject);
      const next = await promise;
      if (next === undefined || next.done === true) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
