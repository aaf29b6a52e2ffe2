export * from '../../deploy/sandbox/dockerd.ts';
