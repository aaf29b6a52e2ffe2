export * from '../../deploy/sandbox/ports.ts';
