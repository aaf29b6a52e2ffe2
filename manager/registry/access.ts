/** How registries and Docker daemons are reached. Credentials are skopeo's own business: an auth file, never an argument. */
export interface RegistryAccess {
  /** Path of an auth file as `docker login` or `skopeo login` writes it; undefined: where skopeo looks by itself. */
  readonly authFile?: string | undefined;
  /** Registries ("host" or "host:port") that speak http, or https with a certificate that nobody vouches for. */
  readonly insecureRegistries?: readonly string[] | undefined;
  /** For docker-daemon: a socket or address as in DOCKER_HOST; undefined: DOCKER_HOST, or else the daemon's usual socket. */
  readonly dockerHost?: string | undefined;
}
