export * from '../../deploy/sandbox/packages.ts';
