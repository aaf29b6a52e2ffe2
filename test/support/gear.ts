export * from '../../deploy/sandbox/gear.ts';
