import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator } from '../support/operator.ts';

const MIB = 1024 * 1024;
const settings = ['exports.backend=storage-daemon', 'verify.scrub_percent_per_day=0'];

interface Shown {
  backup_id: string;
  vm_name: string;
  damaged: boolean;
  consistency: string;
  verified_ok: boolean | null;
  repository: string;
  disks: { layer: string; damage: string | null }[];
}
interface Rebuilt {
  warnings: string[];
  result: {
    machines: number;
    added: number;
    updated: number;
    removed: number;
    clashes: number;
    unreadable: number;
    names: Record<string, string[]>;
  };
}
const list = (appliance: TestAppliance) =>
  appliance.json<{ backups: Shown[] }>('backup', 'list', '--status', 'completed').backups;
const uuidOf = (appliance: TestAppliance, vm: string) =>
  appliance.json<{ vm_uuid: string }>('vm', 'show', vm).vm_uuid;

describe('rebuild and attach', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-rebuild-'));
  const one = new TestAppliance();
  const other = new TestAppliance();
  const at = (name: string) => join(work, name);
  const ids: string[] = [];
  const backups = join(one.home, 'backups');
  const manifest = (id: string) => join(backups, uuidOf(one, 'm'), 'backups', `${id}.json`);
  const rebuild = () => one.json<Rebuilt>('repository', 'rebuild', 'local');

  beforeAll(async () => {
    writeFileSync(at('m'), bytesOf('m', 3 * MIB));
    await one.start(settings);
    await other.start(settings);
    one.json('vm', 'add', 'm', '--disk', at('m'));
    for (const round of [0, 1, 2]) {
      writeFileSync(at('m'), bytesOf(`round ${round}`, 70_000), { flag: 'r+' });
      ids.push(new Operator(one).backUp('m').backup_id);
      cpSync(at('m'), at(`m.${round}`));
    }
    one.json('verify', 'vm', 'm', '--wait');
  });
  afterAll(async () => {
    await one.dispose();
    await other.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('finds no difference when there is none', () => {
    const before = list(one);
    expect(rebuild()).toMatchObject({
      warnings: [],
      result: { machines: 1, added: 0, updated: 0, removed: 0, clashes: 0, unreadable: 0 },
    });
    expect(list(one)).toEqual(before);
  });

  it('attaches a copy on another appliance, with verdicts, and refuses one that is listed already', () => {
    cpSync(backups, at('copy'), { recursive: true, preserveTimestamps: true });
    expectFailure(one.ctl('repository', 'attach', 'copy', '--path', at('copy')), 'REPOSITORY_IS_COPY', 13);
    writeFileSync(at('n'), bytesOf('n', MIB));
    // the name is taken here
    other.json('vm', 'add', 'm', '--disk', at('n'));
    const attached = other.json('repository', 'attach', 'copy', '--path', at('copy'));
    expect(attached).toMatchObject({ name: 'copy', path: at('copy'), machines: 1, backups: 3 });
    const uuid = uuidOf(one, 'm');
    const name = `m-${uuid.slice(0, 8)}`;
    expect(other.json('vm', 'show', name)).toMatchObject({ registered: false, vm_uuid: uuid });
    expect(
      list(other).map(({ backup_id, verified_ok, repository }) => [backup_id, verified_ok, repository]),
    ).toEqual(ids.toReversed().map((id) => [id, true, 'copy']));
    for (const [index, id] of ids.entries()) new Operator(other).expectRestored(id, 0, at(`m.${index}`));
    expect(other.json<Rebuilt>('repository', 'rebuild', 'copy').result).toMatchObject({
      updated: 0,
      removed: 0,
    });
  });

  it('knows a repository that moved while it was away', async () => {
    expectFailure(other.ctl('repository', 'attach', 'twice', '--path', at('copy')), 'REPOSITORY_IS_COPY', 13);
    await other.stop();
    renameSync(at('copy'), at('moved'));
    await other.start(settings);
    expectFailure(
      other.ctl('repository', 'attach', 'twice', '--path', at('moved')),
      'REPOSITORY_IS_COPY',
      13,
    );
    expect(other.json('repository', 'attach', 'copy', '--path', at('moved'))).toMatchObject({ backups: 3 });
    new Operator(other).expectRestored(ids[2] ?? '', 0, at('m.2'));
  });

  it('attaches nothing that is no repository, and makes none', () => {
    mkdirSync(at('empty'));
    for (const path of [at('empty'), at('nowhere'), at('n')])
      expectFailure(other.ctl('repository', 'attach', 'x', '--path', path), 'REPOSITORY_UNAVAILABLE', 21);
    expect(readdirSync(at('empty'))).toEqual([]);
    expect(existsSync(at('nowhere'))).toBe(false);
    mkdirSync(at('newer'));
    const id = '70850b8f-2042-413e-978a-25a6b54878c7';
    const document = { format: 9, repository_id: id, created_at: '2026-11-20T22:00:00.000Z' };
    writeFileSync(join(at('newer'), 'repository.json'), JSON.stringify(document));
    expectFailure(other.ctl('repository', 'attach', 'x', '--path', at('newer')), 'FORMAT_TOO_NEW', 20);
    expectFailure(other.ctl('repository', 'rebuild', 'x'), 'REPOSITORY_UNKNOWN', 10);
  });

  it('adds a machine that was copied in while the daemon ran', () => {
    new Operator(other).backUp('m', 'full');
    const uuid = uuidOf(other, 'm');
    cpSync(join(other.home, 'backups', uuid), join(backups, uuid), { recursive: true });
    const { result } = rebuild();
    expect(result).toMatchObject({ machines: 2, added: 1, updated: 0, removed: 0 });
    const added = list(one).find((backup) => backup.backup_id === result.names['added']?.[0]);
    expect(added?.vm_name).toBe('m');
    new Operator(one).expectRestored(added?.backup_id ?? '', 0, at('n'));
    rmSync(join(backups, uuid), { recursive: true });
    const again = rebuild();
    expect(again.result).toMatchObject({ machines: 1, removed: 1, names: { removed: [added?.backup_id] } });
  });

  it('updates what the files say otherwise, and what they say is damaged', () => {
    const [first = '', middle = '', last = ''] = ids;
    const document = JSON.parse(readFileSync(manifest(last), 'utf8')) as object;
    writeFileSync(manifest(last), JSON.stringify({ ...document, consistency: 'application' }));
    expect(rebuild().result).toMatchObject({ added: 0, updated: 1, removed: 0, names: { updated: [last] } });
    expect(one.json<Shown>('backup', 'show', last).consistency).toBe('application');

    const layer = sh('find', backups, '-name', list(one)[1]?.disks[0]?.layer ?? '').trim();
    renameSync(layer, `${layer}.away`);
    expect(new Set(rebuild().result.names['updated'])).toEqual(new Set([middle, last]));
    expect(list(one).map(({ damaged }) => damaged)).toEqual([true, true, false]);
    renameSync(`${layer}.away`, layer);
    expect(rebuild().result).toMatchObject({ updated: 2 });
    expect(list(one).map(({ damaged }) => damaged)).toEqual([false, false, false]);
    for (const [index, id] of [first, middle, last].entries())
      new Operator(one).expectRestored(id, 0, at(`m.${index}`));
  });

  it('removes rows only when the manifest is gone, not when it cannot be read', () => {
    const last = ids[2] ?? '';
    const content = readFileSync(manifest(last));
    truncateSync(manifest(last), 10);
    const unreadable = rebuild();
    expect(unreadable.result).toMatchObject({ removed: 0, unreadable: 1 });
    expect(unreadable.warnings.join()).toContain('cannot be read');
    expect(list(one)).toHaveLength(3);
    rmSync(manifest(last));
    const gone = rebuild();
    expect(gone.result).toMatchObject({ removed: 1, names: { removed: [last] } });
    expect(gone.warnings.join()).toContain('1 backups were removed from the catalogue');
    expect(list(one)).toHaveLength(2);
    writeFileSync(manifest(last), content);
    expect(rebuild().result).toMatchObject({ added: 1, names: { added: [last] } });
    new Operator(one).expectRestored(last, 0, at('m.2'));

    const description = join(backups, uuidOf(one, 'm'), 'vm.json');
    renameSync(description, `${description}.away`);
    expect(rebuild().result).toMatchObject({ removed: 0, unreadable: 1 });
    renameSync(`${description}.away`, description);
    expect(list(one)).toHaveLength(3);
  });
});
