import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sh } from './guest-disk.ts';

/** What a process of nobody may do is all that libvirt needs in a session. */
const NOBODY = 65534;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export interface DiskSetup {
  readonly target: string;
  readonly format: 'qcow2' | 'raw';
  readonly sizeMib: number;
}

/** A libvirt of its own, without any privilege: domains run by TCG, paused, so that they take no CPU. */
export class LibvirtHost {
  readonly folder: string;
  readonly uri: string;
  readonly disks: string;

  constructor(parent = tmpdir()) {
    this.folder = mkdtempSync(join(parent, 'sd-virt-'));
    this.disks = join(this.folder, 'disks');
    this.uri = `qemu:///session?socket=${join(this.folder, 'run', 'libvirt', 'libvirt-sock')}`;
    chmodSync(this.folder, 0o755);
    for (const name of ['run', 'cfg', 'cfg/libvirt', 'data', 'cache', 'disks']) {
      mkdirSync(join(this.folder, name), { recursive: true });
      chownSync(join(this.folder, name), NOBODY, NOBODY);
    }
    chownSync(this.folder, NOBODY, NOBODY);
    writeFileSync(
      join(this.folder, 'cfg/libvirt/qemu.conf'),
      'stdio_handler="file"\nsecurity_driver="none"\n',
    );
  }

  async start(): Promise<void> {
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: this.folder,
      XDG_RUNTIME_DIR: join(this.folder, 'run'),
      XDG_CONFIG_HOME: join(this.folder, 'cfg'),
      XDG_DATA_HOME: join(this.folder, 'data'),
      XDG_CACHE_HOME: join(this.folder, 'cache'),
    };
    this.asNobody('libvirtd', ['-d', '-p', join(this.folder, 'run', 'libvirtd.pid')], env);
    for (let round = 0; round < 400; round += 1) {
      if (spawnSync('virsh', ['-c', this.uri, 'list'], { stdio: 'ignore' }).status === 0) return;
      await sleep(25);
    }
    throw new Error('libvirtd does not answer');
  }

  asNobody(tool: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
    const as = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups', tool, ...args];
    return execFileSync('setpriv', as, {
      encoding: 'utf8',
      env: { ...env, PATH: `${env['PATH']}:/usr/sbin:/sbin` },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** @throws with what virsh said */
  virsh(...args: string[]): string {
    return sh('virsh', '-q', '-c', this.uri, ...args);
  }

  diskPath(name: string, target: string): string {
    return join(this.disks, `${name}-${target}`);
  }

  makeDisk(name: string, { target, format, sizeMib }: DiskSetup): string {
    const path = this.diskPath(name, target);
    this.asNobody('qemu-img', ['create', '-q', '-f', format, path, `${sizeMib}M`]);
    return path;
  }

  diskXml(name: string, { target, format }: DiskSetup): string {
    return `<disk type='file' device='disk'><driver name='qemu' type='${format}' discard='unmap'/><source file='${this.diskPath(name, target)}'/><target dev='${target}' bus='${target.startsWith('sd') ? 'scsi' : 'virtio'}'/><alias name='ua-${target}'/></disk>`;
  }

  /** Defines a domain with new disks; it does not run yet. */
  define(name: string, disks: readonly DiskSetup[], more = '', uuid = '', memoryMib = 32): void {
    for (const disk of disks) if (!existsSync(this.diskPath(name, disk.target))) this.makeDisk(name, disk);
    const xml = `<domain type='qemu'><name>${name}</name>${uuid}<memory unit='MiB'>${memoryMib}</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>${disks.map((disk) => this.diskXml(name, disk)).join('')}${more}<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`;
    this.withFile(xml, (file) => this.virsh('define', file));
  }

  withFile<T>(text: string, work: (file: string) => T): T {
    const folder = mkdtempSync(join(this.folder, 'xml-'));
    const file = join(folder, 'document.xml');
    writeFileSync(file, text);
    try {
      return work(file);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Paused: nothing in it runs, and yet every block job does. */
  run(name: string): void {
    this.virsh('start', '--paused', name);
  }

  /**
   * Writes as the guest would, by qemu-io on the device itself; its complaints go to the domain's log only.
   * @param commands such as `write -P 0x11 1M 64k`, `write -z -u 0 1M`, `discard 0 64k`
   */
  write(name: string, target: string, ...commands: string[]): void {
    const before = this.complaints(name);
    const device = `/machine/peripheral/ua-${target}${target.startsWith('sd') ? '' : '/virtio-backend'}`;
    const lines = commands.map(
      (command) => `qemu-monitor-command ${name} --hmp 'qemu-io -d ${device} "${command}"'`,
    );
    // one virsh for all of them: hundreds of programs would take minutes
    execFileSync('virsh', ['-q', '-c', this.uri], {
      input: `${lines.join('\n')}\n`,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    const said = this.complaints(name);
    if (said !== before) throw new Error(`qemu-io: ${said.slice(before.length)}`);
  }

  /** What the guest has on a disk just now, as a raw file, read by QEMU's own tools. The path of that file. */
  rawCopy(name: string, target: string, format = 'qcow2'): string {
    const path = join(this.folder, `${name}-${target}.raw`);
    rmSync(path, { force: true });
    // what QEMU still holds in its caches would be missing
    if (!this.virsh('domstate', name).includes('shut off')) this.write(name, target, 'flush');
    sh('qemu-img', 'convert', '-U', '-O', 'raw', '-f', format, this.diskPath(name, target), path);
    return path;
  }

  /** Names of the checkpoints of a domain. */
  checkpoints(name: string): string[] {
    let text = '';
    for (let left = 100; ; left -= 1) {
      try {
        text = this.virsh('checkpoint-list', name, '--name', '--topological');
        break;
      } catch (error) {
        // libvirt stumbles as long as one is being made
        if (left === 0) throw error;
      }
    }
    return text.split('\n').filter((line) => line.trim() !== '');
  }

  /** What QEMU and qemu-io complained of. */
  complaints(name: string): string {
    const log = join(this.folder, 'cache', 'libvirt', 'qemu', 'log', `${name}.log`);
    if (!existsSync(log)) return '';
    return readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => /failed|error|invalid|Pattern verification/i.test(line))
      .join('\n');
  }

  /** As after a power cut: nothing is saved. */
  async crash(name: string): Promise<void> {
    for (const pid of this.#qemus(name)) process.kill(pid, 'SIGKILL');
    for (let round = 0; round < 400; round += 1) {
      if (this.virsh('domstate', name).includes('shut off')) return;
      await sleep(25);
    }
    throw new Error(`${name} does not die`);
  }

  #qemus(name: string | null): number[] {
    return readdirSync('/proc')
      .filter((entry) => /^\d+$/.test(entry))
      .map(Number)
      .filter((pid) => {
        try {
          const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
          const isOurs = command.includes('qemu-system') && command.includes(this.folder);
          return isOurs && (name === null || command.includes(`guest=${name},`));
        } catch {
          return false;
        }
      });
  }

  /** The machines go on without it. */
  async stopDaemon(): Promise<void> {
    const pidFile = join(this.folder, 'run', 'libvirtd.pid');
    const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0;
    if (pid > 0) {
      process.kill(pid, 'SIGTERM');
      for (let round = 0; round < 400 && existsSync(`/proc/${pid}`); round += 1) await sleep(25);
      if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
    }
  }

  /** Ends every machine and the daemon; leaves nothing. */
  async dispose(): Promise<void> {
    for (const pid of this.#qemus(null)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it has ended meanwhile
      }
    }
    await this.stopDaemon();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
