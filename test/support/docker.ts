export * from '../../deploy/sandbox/docker.ts';
