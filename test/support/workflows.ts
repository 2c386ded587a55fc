/**
 * Ordinary work that takes files away or replaces them, each as its own program does it: nothing of it may be restored.
 * Each is a bash script that runs in a protected folder of its own, `prepare` before it is protected as well.
 */
import { projectPath } from "./project.js";

export interface Workflow {
  readonly name: string;
  /** Programs without which it is skipped. */
  readonly needs: readonly string[];
  readonly prepare: string;
  readonly script: string;
  /** Only told apart when the system says who did it. */
  readonly needsActor?: boolean;
  /** Takes seconds, so that only the benchmark runs it. */
  readonly isSlow?: true;
}

const REPOSITORY = `git init -q . && git config user.email a@example.org && git config user.name a
mkdir -p src; for i in $(seq 12); do echo "module $i" > src/m$i.txt; done
git add . && git commit -qm one
git checkout -qb other; git rm -q src/m1.txt src/m2.txt src/m3.txt; echo more > src/other.txt; git add . ; git commit -qm two
git checkout -q -`;
const PRETTIER = projectPath("node_modules", ".bin", "prettier");
const NPM_INSTALL = "npm install --offline --no-audit --no-fund --silent";
const TEN_FILES = 'mkdir -p work; for i in $(seq 10); do echo "file $i of the work" > work/f$i.txt; done';

/** As a program that runs has it: the log holds what is committed and not yet written back. */
const LIVE_DATABASE = `sqlite3 work.db <<'SQL'
pragma journal_mode = wal; pragma wal_autocheckpoint = 0;
create table t(x); insert into t values('one');
.system for each in db db-wal db-shm; do cp work.$each shop.$each; done
SQL
rm -f work.db*; test -s shop.db-wal
printf 'pretended journal' > kept.db-journal; sqlite3 kept.db 'pragma journal_mode = truncate; create table t(x)'
head -c 600 /dev/zero | tr '\\0' j > kept.db-journal`;

export const WORKFLOWS: readonly Workflow[] = [
  {
    name: "the last connection to an SQLite database",
    needs: ["sqlite3"],
    prepare: LIVE_DATABASE,
    script: `sqlite3 shop.db "insert into t values('two')"; test ! -e shop.db-wal; : > kept.db-journal`,
  },
  {
    name: "git checkout of a branch without them",
    needs: ["git"],
    prepare: REPOSITORY,
    script: "git checkout -q other",
  },
  {
    name: "git stash",
    needs: ["git"],
    prepare: `${REPOSITORY}\necho draft > src/draft.txt; git add src/draft.txt`,
    script: "git stash -q",
  },
  {
    name: "git reset --hard",
    needs: ["git"],
    prepare: `${REPOSITORY}\necho new > src/new.txt; git add .; git commit -qm three`,
    script: "git reset -q --hard HEAD~1",
  },
  {
    name: "git clean",
    needs: ["git"],
    prepare: `${REPOSITORY}\nmkdir out; for i in 1 2 3 4; do echo $i > out/o$i.tmp; done`,
    script: "git clean -qfdx",
    needsActor: true,
  },
  {
    name: "git mv",
    needs: ["git"],
    prepare: REPOSITORY,
    script:
      "git mv src/m4.txt src/n4.txt; mkdir lib; git mv src/m5.txt src/m6.txt lib/; git mv src source; git commit -qm moved",
  },
  {
    name: "prettier --write",
    needs: [],
    prepare: `mkdir -p work; for i in $(seq 4); do printf '{"number":%d,"list":[1,2,\n3]}' $i > work/j$i.json; printf 'const x={a:%d}\n' $i > work/s$i.ts; printf 'a:   [1,2]\nb: %d\n' $i > work/y$i.yaml; done`,
    script: `"${PRETTIER}" --no-config --log-level error --write work`,
  },
  { name: "sed -i", needs: [], prepare: TEN_FILES, script: "sed -i s/file/page/ work/*.txt" },
  {
    name: "vim",
    needs: ["vim"],
    prepare: TEN_FILES,
    script:
      "for i in 1 2 3; do vim -es -u NONE -c 'set writebackup backupskip= backupcopy=no' -c 's/file/page/' -c wq work/f$i.txt; done",
  },
  {
    name: "rsync onto them",
    needs: ["rsync"],
    prepare: `${TEN_FILES}\nmkdir ../seed-$$; cp -r work/. ../seed-$$; echo newer >> ../seed-$$/f1.txt; mv ../seed-$$ seed`,
    script: "rsync -a seed/ work/",
  },
  {
    name: "tar x onto them",
    needs: ["tar"],
    prepare: `${TEN_FILES}\ntar cf pack.tar work`,
    script: "tar xf pack.tar",
  },
  {
    name: "unzip onto them",
    needs: ["unzip", "python3"],
    prepare: `${TEN_FILES}\npython3 -m zipfile -c pack.zip work`,
    script: "unzip -qo pack.zip",
  },
  {
    name: "make clean",
    needs: ["make"],
    prepare: `${TEN_FILES}\nmkdir build; for i in 1 2 3 4; do echo $i > build/p$i.o; done\nprintf 'clean:\\n\\trm -rf build\\n' > Makefile`,
    script: "make -s clean",
    needsActor: true,
  },
  {
    name: "npm's way with node_modules",
    needs: [],
    prepare:
      "mkdir -p node_modules/a node_modules/b; for p in a b; do for i in 1 2 3 4; do echo $i > node_modules/$p/i$i.js; done; done; echo {} > node_modules/.package-lock.json",
    script:
      "rm -rf node_modules; sleep 0.2; mkdir -p node_modules/a; echo 1 > node_modules/a/i1.js; echo {} > node_modules/.package-lock.json",
  },
  {
    name: "npm install of another version",
    needs: ["npm"],
    prepare: `for v in 1 2; do mkdir -p pack$v/package; printf '{"name":"dep","version":"%d.0.0"}' $v > pack$v/package/package.json
for i in 1 2 3 4; do echo "module.exports = $i" > pack$v/package/v$v-$i.js; done; tar czf dep-$v.tgz -C pack$v package; done
echo '{"name":"app","version":"1.0.0","private":true}' > package.json; ${NPM_INSTALL} ./dep-1.tgz`,
    script: `${NPM_INSTALL} ./dep-2.tgz; test -e node_modules/dep/v2-1.js; npm uninstall --offline --no-audit --no-fund --silent dep`,
    isSlow: true,
  },
  {
    name: "vim, nano and emacs closed after a while",
    needs: ["vim", "nano", "emacs", "script"],
    prepare: TEN_FILES,
    script: `(sleep 1; printf 'omore\\033:wq\\r'; sleep 1) | vim --not-a-term -N -u NONE work/f1.txt > /dev/null 2>&1 || true
(sleep 1; printf 'more\\017\\r\\030'; sleep 1) | TERM=xterm script -qec 'nano -G work/f2.txt' /dev/null > /dev/null || true
(sleep 1; printf 'more\\030\\023\\030\\003'; sleep 1) | TERM=xterm script -qec 'emacs -nw -Q work/f3.txt' /dev/null > /dev/null || true
echo ,ada, > .~lock.f4.ods#; echo 4 > f4.ods; sleep 1; rm .~lock.f4.ods#`,
    isSlow: true,
  },
  {
    name: "logrotate with compression",
    needs: ["logrotate", "gzip"],
    prepare:
      'mkdir -m 755 logs; for i in $(seq 200); do echo "line $i"; done > logs/app.log; for i in $(seq 90); do echo old $i; done > logs/app.log.1; for i in $(seq 80); do echo older $i; done | gzip > logs/app.log.2.gz\nprintf "%s/logs/app.log {\\nrotate 2\\ncompress\\ndelaycompress\\nmissingok\\ncreate\\n}\\n" "$PWD" > rotate.conf; chmod 644 rotate.conf; chown -R root: . 2>/dev/null || true',
    script: "logrotate -f -s state rotate.conf",
  },
  { name: "moved to the trash", needs: ["gio"], prepare: TEN_FILES, script: "gio trash work/f1.txt work/f2.txt" },
  {
    name: "mv to other names and folders",
    needs: [],
    prepare: `${TEN_FILES}; mkdir away`,
    script: "mv work/f1.txt work/g1.txt; mv work/f2.txt away/; mv work elsewhere",
  },
  {
    name: "saved by copy, removal and new name",
    needs: [],
    prepare: TEN_FILES,
    script:
      "for i in 1 2 3; do cp work/f$i.txt work/.new; echo more >> work/.new; mv work/.new work/f$i.txt; done; rm -f work/f4.txt; echo again > work/f4.txt",
  },
];
