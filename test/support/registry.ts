export * from '../../deploy/sandbox/registry.ts';
