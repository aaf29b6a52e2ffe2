export * from '../../deploy/sandbox/process.ts';
