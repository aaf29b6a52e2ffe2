/** How an NFS server is doing. `reason`: why it does not serve. */
export interface ServerState {
  readonly serving: boolean;
  readonly reason: string;
}

/** An NFS server that exports the objects. Disposing it takes the export back. */
export interface NfsServer extends AsyncDisposable {
  /** The exported folder, from the server's root on. */
  readonly path: string;
  readonly state: ServerState;
}
