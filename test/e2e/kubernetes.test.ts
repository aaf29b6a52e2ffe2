import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../support/gear.ts';
import { kubernetes, type Manifest } from '../support/kubernetes.ts';
import { bootMachine } from '../support/machine.ts';

const folder = join(projectRoot, 'deploy/kubernetes');
const read = async (name: string) => await readFile(join(folder, name), 'utf8');

describe('the manifests', async () => {
  const { readYaml, problemOf, typeProblems } = await kubernetes();
  const [kustomization] = readYaml(await read('kustomization.yaml')) as unknown as [
    {
      resources: string[];
      images: { name: string }[];
      configMapGenerator: { name: string; files: string[] }[];
    },
  ];
  const manifests = (await Promise.all(kustomization.resources.map(read))).flatMap(readYaml);
  const workloads = manifests.filter(({ kind }) => kind === 'Deployment' || kind === 'DaemonSet');
  const podOf = ({ spec }: Manifest) => spec.template.spec;
  const containersOf = (manifest: Manifest) => [
    ...(podOf(manifest).initContainers ?? []),
    ...podOf(manifest).containers,
  ];

  it('are what the schemas and types of Kubernetes allow', async () => {
    expect(manifests.map(({ kind }) => kind).sort()).toEqual([
      'DaemonSet',
      'Deployment',
      'Namespace',
      'NetworkPolicy',
      'NetworkPolicy',
      'PersistentVolumeClaim',
      'Service',
    ]);
    for (const manifest of manifests)
      expect(`${manifest.kind}: ${await problemOf(manifest)}`).toBe(`${manifest.kind}: `);
    expect(await typeProblems(manifests)).toBe('');
  });

  it('would be found out otherwise', async () => {
    const [workload] = workloads as [Manifest];
    const spoil = (change: (pod: { containers: Record<string, unknown>[] }) => void) => {
      const copy = structuredClone(workload);
      change(podOf(copy));
      return copy;
    };
    const wrongType = spoil(({ containers }) => Object.assign(containers[0] as object, { image: 4 }));
    const wrongName = spoil(({ containers }) => Object.assign(containers[0] as object, { imagee: 'x' }));
    expect(await problemOf(wrongType)).toContain('image must be string');
    expect(await typeProblems([wrongName])).toMatch(/imagee.* does not exist in type/);
  });

  it('name images, configuration and ports that are there', () => {
    const images = kustomization.images.map(({ name }) => name);
    const maps = kustomization.configMapGenerator.map(({ name }) => name);
    for (const workload of workloads) {
      expect(workload.spec.selector.matchLabels).toEqual(workload.spec.template.metadata.labels);
      const volumes: { name: string; configMap?: { name: string } }[] = podOf(workload).volumes;
      for (const { configMap } of volumes) if (configMap !== undefined) expect(maps).toContain(configMap.name);
      for (const { image, volumeMounts = [] } of containersOf(workload)) {
        expect(images).toContain(image);
        for (const mount of volumeMounts) expect(volumes.map(({ name }) => name)).toContain(mount.name);
      }
    }
    const labelled = (labels: object) =>
      workloads.filter(({ spec }) => JSON.stringify(spec.template.metadata.labels) === JSON.stringify(labels));
    const portsOf = (workload: Manifest) =>
      containersOf(workload).flatMap(({ ports = [] }) => ports.map(({ name }: { name: string }) => name));
    const service = manifests.find(({ kind }) => kind === 'Service') as Manifest;
    const [served] = labelled(service.spec.selector) as [Manifest];
    for (const { targetPort } of service.spec.ports) expect(portsOf(served)).toContain(targetPort);
    for (const policy of manifests.filter(({ kind }) => kind === 'NetworkPolicy')) {
      const [workload] = labelled(policy.spec.podSelector.matchLabels) as [Manifest];
      const named = (policy.spec.ingress ?? []).flatMap(({ ports }: { ports: { port: string }[] }) => ports);
      for (const { port } of named) expect(portsOf(workload)).toContain(port);
    }
  });

  it.each([
    ['manager', 'manager.conf'],
    ['node', 'driver.conf'],
  ])('come with a configuration for the %s that is accepted', async (role, name) => {
    const check = join(projectRoot, 'deploy/setup/check-config.ts');
    await execa(process.execPath, [check, role, join(folder, name)]);
  });
});

describe('node-setup', () => {
  it('makes a node with containerd lazy, from a pod that sees its files', async () => {
    await using machine = await bootMachine();
    const { run } = machine;
    await run(`cd ${projectRoot}
      deploy/ca /tmp/pki manager 127.0.0.1 >/dev/null
      deploy/ca /tmp/pki node cluster >/dev/null
      deploy/install manager --no-start --set tls-cert=/etc/gear/pki/manager.crt --set tls-key=/etc/gear/pki/manager.key \\
        --set tls-client-ca=/etc/gear/pki/ca.crt --set token-file=/etc/gear/pki/tokens
      install -d -m 750 -g gear-manager /etc/gear/pki
      install -m 640 -g gear-manager -t /etc/gear/pki /tmp/pki/{manager.crt,manager.key,ca.crt,tokens}
      systemctl start gear-manager containerd
      mkdir -p /tmp/pod/host /tmp/pod/config
      sed 's/^manager =.*/manager = 127.0.0.1:2019/' deploy/kubernetes/driver.conf >/tmp/pod/config/driver.conf
      cp -r /tmp/pki/nodes/cluster /tmp/pod/pki`);
    const containerd = async () => await run('systemctl show --value --property=MainPID containerd');
    const first = await containerd();
    const setup = async () =>
      await run(`export GEAR_HOST=/tmp/pod/host GEAR_CONFIG_FOLDER=/tmp/pod/config GEAR_PKI_FOLDER=/tmp/pod/pki
        unshare --mount bash -c 'mount --rbind / /tmp/pod/host && exec ${projectRoot}/deploy/kubernetes/node-setup' 2>&1`);
    const said = await setup();
    expect(said).toContain('+ /etc/systemd/system/gear-driver.service');
    expect(said).toContain('containerd is restarted');
    expect(said).toMatch(/CRI's snapshotter +gear/);
    expect(said).toMatch(/ok +manager +serving at 127.0.0.1:2019/);
    // containerd, under its own unit, reaches the driver under its own.
    expect(await run('ctr snapshots --snapshotter gear list')).toMatch(/^KEY/);
    const second = await containerd();
    expect(second).not.toBe(first);
    const driver = await run('systemctl show --value --property=MainPID gear-driver');
    expect(await setup()).toContain('Nothing to do');
    expect(await run('systemctl show --value --property=MainPID gear-driver')).toBe(driver);
    expect(await containerd()).toBe(second);
  });
});
