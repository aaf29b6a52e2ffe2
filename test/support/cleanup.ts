export * from '../../deploy/sandbox/cleanup.ts';
