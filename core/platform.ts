/** An OS and CPU that an image is for, in OCI's words ("linux", "arm64", "v8"). `variant` may be empty. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}
