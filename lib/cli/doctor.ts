/** doctor: what Banyan can use on this machine. */
import { devices, version } from '../index.js';
import { table } from './format.js';
import { readPackage } from './models.js';
import type { DoctorFlags } from './options.js';

export function doctor(flags: DoctorFlags): void {
  const { cpu, cpuVariants, cuda, cudaObstacle } = devices();
  const facts = {
    version: readPackage().version,
    addon: version(),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    cpu,
    cpuVariants,
    cuda,
    cudaObstacle,
  };
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(facts)}\n`);
    return;
  }
  const rows: [string, string][] = [
    ['banyan', `${facts.version} (addon ${facts.addon})`],
    ['node', `${facts.node} on ${facts.platform}`],
    ['cpu', `${cpu}; instruction sets it can use: ${cpuVariants.join(', ')}`],
    ['cuda', cuda ?? `not used: ${cudaObstacle}`],
  ];
  process.stdout.write(`${table(rows, '')}\n`);
}
