/**
 * A working day of a developer and of the admin of one server, written down as a table: who does what between which hours,
 * how often, by which programs, and what gets lost meanwhile that nobody meant. `{n}` is a number that differs for each
 * deed, `{k}` one of 1 to 24; scripts are of bash and run in the protected folder. It is a script, no recording of people.
 */

export interface Activity {
  readonly who: "developer" | "admin";
  readonly what: string;
  readonly fromHour: number;
  readonly untilHour: number;
  readonly times: number;
  readonly script: string;
  /** Programs without which it is left out. */
  readonly needs?: readonly string[];
  /** `holdfast pause` of this folder is open meanwhile: the way to delete by hand in mode `protect`. */
  readonly paused?: string;
  /** Takes a second or more. */
  readonly isSlow?: true;
}

/** What stands there in the morning. Nothing but a loss touches `keep`. */
export const MORNING = `
mkdir -p dev/project/src dev/notes dev/documents dev/downloads keep/a keep/b/deep keep/c
mkdir -p admin/etc admin/db admin/reports admin/archive admin/www/releases/1; mkdir -m 755 admin/log
for i in $(seq 24); do
  echo "export const value$i = $i; // of module $i" > dev/project/src/m$i.js
  echo "# Note $i" > dev/notes/n$i.md; echo "Document $i, first draft." > dev/documents/d$i.txt
  printf 'port = 80%02d\\nname = service %d\\n' $i $i > admin/etc/c$i.conf
  printf 'service: %d\\nlist: [a, b]\\n' $i > admin/etc/c$i.yaml; printf '{"service": %d}\\n' $i > admin/etc/c$i.json
  for each in 1 2 3; do echo "report $i.$each" > admin/reports/r$i-$each.txt; done
  echo "download $i" > dev/downloads/f$i.bin
done
for i in $(seq 40); do
  printf 'kept line %d\\n' $(seq $i $((i + 60))) > keep/a/t$i.txt; echo "{\\"kept\\": $i, \\"list\\": [1, 2, 3]}" > keep/c/j$i.json
  mkdir keep/b/deep/$i; for each in 1 2; do echo "part $each of $i" > keep/b/deep/$i/p$each.txt; done
done
printf 'all:\\n\\tmkdir -p build\\n\\tfor f in src/*.js; do cp $$f build/; done\\nclean:\\n\\trm -rf build\\n' > dev/project/Makefile
(cd dev/project; git init -q .; git config user.email ada@example.org; git config user.name Ada; git config gc.auto 0
git add .; git commit -qm first; git checkout -qb side; git rm -q src/m1.js src/m2.js; echo more > src/side.js; git add .
git commit -qm side; git checkout -q -)
for i in $(seq 200); do echo "line $i"; done > admin/log/app.log; seq 90 > admin/log/app.log.1
seq 80 | gzip > admin/log/app.log.2.gz
printf '%s/admin/log/app.log {\\nrotate 3\\ncompress\\ndelaycompress\\nmissingok\\ncreate\\n}\\n' "$PWD" > admin/rotate.conf
chmod 644 admin/rotate.conf; echo "<p>release 1</p>" > admin/www/releases/1/index.html; ln -s releases/1 admin/www/current
`;

const COMMIT = "git add -A; git commit -qm 'work {n}' || true";
const TYPED = (keys: string): string => `(sleep 1; printf '${keys}'; sleep 1)`;

export const WORK: readonly Activity[] = [
  {
    ...{ who: "developer", what: "saves in vim", fromHour: 8, untilHour: 18, times: 12, needs: ["vim"], isSlow: true },
    script: `${TYPED("ocode {n}\\033:wq\\r")} | vim --not-a-term -N -u NONE dev/project/src/m{k}.js > /dev/null 2>&1 || true`,
  },
  {
    ...{ who: "developer", what: "saves in vim by a new file", fromHour: 8, untilHour: 18, times: 20, needs: ["vim"] },
    script:
      "vim -es -u NONE -c 'set writebackup backupskip= backupcopy=no' -c '$s/$/ {n}/' -c wq dev/notes/n{k}.md || true",
  },
  {
    ...{
      who: "developer",
      what: "saves in emacs",
      fromHour: 9,
      untilHour: 17,
      times: 5,
      needs: ["emacs"],
      isSlow: true,
    },
    script: `${TYPED("text {n}\\030\\023\\030\\003")} | TERM=xterm script -qec 'emacs -nw -Q dev/documents/d{k}.txt' /dev/null > /dev/null || true`,
  },
  {
    ...{ who: "developer", what: "saves in nano", fromHour: 9, untilHour: 17, times: 5, needs: ["nano"], isSlow: true },
    script: `${TYPED("text {n}\\017\\r\\030")} | TERM=xterm script -qec 'nano -G -B dev/documents/d{k}.txt' /dev/null > /dev/null || true`,
  },
  {
    ...{ who: "developer", what: "saves in an office program", fromHour: 9, untilHour: 17, times: 12 },
    script:
      "cd dev/documents; echo ',ada,host;' > .~lock.d{k}.txt#; sleep 0.4; echo 'Draft {n}' > lu{n}.tmp; mv lu{n}.tmp d{k}.txt; rm '.~lock.d{k}.txt#'",
  },
  {
    ...{ who: "developer", what: "saves in place", fromHour: 8, untilHour: 18, times: 30 },
    script: "echo '// {n}' >> dev/project/src/m{k}.js",
  },
  { who: "developer", what: "commits", fromHour: 9, untilHour: 18, times: 14, script: `cd dev/project; ${COMMIT}` },
  {
    ...{ who: "developer", what: "looks at another branch", fromHour: 9, untilHour: 18, times: 6 },
    script: `cd dev/project; ${COMMIT}; git checkout -q side; sleep 0.3; git checkout -q -`,
  },
  {
    ...{ who: "developer", what: "puts work aside", fromHour: 9, untilHour: 18, times: 4 },
    script: "cd dev/project; echo draft > src/draft{n}.js; git add .; git stash -q; sleep 0.3; git stash pop -q",
  },
  {
    ...{ who: "developer", what: "throws work away", fromHour: 9, untilHour: 18, times: 3 },
    script: `cd dev/project; echo bad > src/bad{n}.js; ${COMMIT}; git reset -q --hard HEAD~1`,
  },
  {
    ...{ who: "developer", what: "renames a module", fromHour: 9, untilHour: 18, times: 4 },
    script: `cd dev/project; git mv src/m{k}.js src/r{n}.js && git mv src/r{n}.js src/m{k}.js; ${COMMIT}`,
  },
  {
    ...{ who: "developer", what: "builds and cleans", fromHour: 9, untilHour: 18, times: 6, needs: ["make"] },
    script: "cd dev/project; make -s; sleep 0.3; make -s clean",
  },
  {
    ...{ who: "developer", what: "tidies the downloads by hand", fromHour: 12, untilHour: 13, times: 3 },
    script: "rm -f dev/downloads/f{k}.bin dev/downloads/f2{n}.bin",
  },
  {
    ...{ who: "developer", what: "deletes a module by hand", fromHour: 14, untilHour: 16, times: 2 },
    script: `cd dev/project; git add -A; git commit -qm w{n} || true; rm src/m{k}.js; sleep 0.7; git checkout -q -- src/m{k}.js`,
  },
  {
    ...{ who: "developer", what: "makes and drops temporary files", fromHour: 8, untilHour: 18, times: 15 },
    needs: ["perl"],
    script: "perl -e 'open(F, q(>), $ARGV[0]); print F 1; close F; unlink $ARGV[0]' dev/documents/tmp{n}.txt",
  },
  {
    ...{ who: "developer", what: "unpacks an archive over the notes", fromHour: 10, untilHour: 11, times: 2 },
    script: "tar cf dev/notes.tar -C dev notes; tar xf dev/notes.tar -C dev",
  },
  {
    ...{ who: "admin", what: "edits a configuration", fromHour: 8, untilHour: 18, times: 15 },
    script: "sed -i 's/name = .*/name = changed {n}/' admin/etc/c{k}.conf",
  },
  {
    ...{ who: "admin", what: "edits with a backup beside", fromHour: 8, untilHour: 18, times: 6 },
    script: "cd admin/etc; cp -a c{k}.yaml c{k}.yaml.bak; printf 'service: {n}\\nlist: [c]\\n' > c{k}.yaml",
  },
  {
    ...{ who: "admin", what: "gets lines in the log", fromHour: 0, untilHour: 24, times: 60 },
    script: 'for i in $(seq 5); do echo "line {n}.$i" >> admin/log/app.log; done',
  },
  {
    ...{ who: "admin", what: "rotates the log", fromHour: 6, untilHour: 22, times: 4, needs: ["logrotate", "gzip"] },
    script: "logrotate -f -s admin/state admin/rotate.conf",
  },
  {
    ...{ who: "admin", what: "upgrades a package's files", fromHour: 10, untilHour: 16, times: 4 },
    script:
      "cd admin/etc; for i in 3 4 5 6 7 8; do printf 'port = 1{n}\\nname = x\\n' > c$i.conf.dpkg-new; ln -f c$i.conf c$i.conf.dpkg-tmp; mv c$i.conf.dpkg-new c$i.conf; rm c$i.conf.dpkg-tmp; done",
  },
  {
    ...{ who: "admin", what: "writes to a database", fromHour: 0, untilHour: 24, times: 12, needs: ["sqlite3"] },
    script:
      "sqlite3 admin/db/work.db 'pragma journal_mode = wal; create table if not exists t(x); insert into t values({n})' > /dev/null",
  },
  {
    ...{ who: "admin", what: "puts a release out", fromHour: 9, untilHour: 17, times: 4 },
    script:
      "cd admin/www; mkdir releases/{n}; echo '<p>release {n}</p>' > releases/{n}/index.html; ln -s releases/{n} next; mv -T next current",
  },
  {
    ...{ who: "admin", what: "removes old releases, told beforehand", fromHour: 17, untilHour: 18, times: 1 },
    ...{
      paused: "admin/www",
      script: "cd admin/www/releases; for r in *; do [ ../$(readlink ../current) = $r ] || rm -r $r; done",
    },
  },
  {
    ...{ who: "admin", what: "moves the reports to the archive", fromHour: 15, untilHour: 16, times: 1 },
    script: "mv admin/reports/*.txt admin/archive/",
  },
  {
    ...{ who: "admin", what: "copies with rsync", fromHour: 11, untilHour: 12, times: 2, needs: ["rsync"] },
    script: "rsync -a --delete dev/notes/ admin/archive/notes/",
  },
  {
    ...{ who: "admin", what: "compresses old reports", fromHour: 16, untilHour: 17, times: 1, needs: ["gzip"] },
    script: "gzip -f admin/archive/r1-*.txt admin/reports/r1-*.txt 2> /dev/null || true",
  },
];

/** What nobody means; each path is below `keep`, and each number is used once. */
export const LOSSES: readonly { readonly what: string; readonly paths: readonly string[]; readonly script: string }[] =
  [
    { what: "a wrong rm", paths: ["a/t{i}.txt"], script: "rm keep/a/t{i}.txt" },
    { what: "emptied", paths: ["a/t{i}.txt"], script: ": > keep/a/t{i}.txt" },
    {
      what: "torn by a crash",
      paths: ["a/t{i}.txt"],
      script: "size=$(stat -c %s keep/a/t{i}.txt); truncate -s 100 keep/a/t{i}.txt; truncate -s $size keep/a/t{i}.txt",
    },
    { what: "broken JSON", paths: ["c/j{i}.json"], script: "printf '{\"kept\": ' > keep/c/j{i}.json" },
    { what: "a wrong rm -r", paths: ["b/deep/{i}/p1.txt", "b/deep/{i}/p2.txt"], script: "rm -r keep/b/deep/{i}" },
  ];
