/**
 * The report of a recovery as one HTML page: no script, nothing from elsewhere (a policy in its head forbids both), good
 * on paper and in the dark. Every text that comes from a file's name or a program is escaped and its control characters
 * are spelled out.
 */
import type { CandidateDocument, RecoverReport } from "../api/services.js";
import { formatDuration, formatSize } from "../base/units.js";
import { printable } from "./output.js";
import { type RecoveryReportDocument, shownPath, summaryText } from "./recovery-document.js";
import { scoreText, searchedText } from "./recovery-screen.js";

const STYLE = `
:root{color-scheme:light dark;--line:#d5d9de;--soft:#5c6670;--good:#0a7a3d;--bad:#b3261e;--wait:#9a6700;--bar:#2f6fdb;--back:#fff;--ink:#1b1f24;--panel:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--line:#30363d;--soft:#9aa4af;--good:#3fb950;--bad:#ff7b72;--wait:#d29922;--bar:#58a6ff;--back:#0d1117;--ink:#e6edf3;--panel:#161b22}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,"DejaVu Sans",sans-serif;margin:0 auto;padding:2rem 1.25rem;max-width:72rem;background:var(--back);color:var(--ink)}
h1{font-size:1.5rem;margin:0 0 .25rem}
p{margin:.25rem 0}
.soft{color:var(--soft)}
.sums{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.25rem 0;padding:0;list-style:none}
.sums li{flex:1 1 8rem;padding:.6rem .9rem;border:1px solid var(--line);border-radius:.5rem;background:var(--panel)}
.sums b{display:block;font-size:1.5rem;line-height:1.2}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;white-space:nowrap}
td.number,th.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
code,.path{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.85em;overflow-wrap:anywhere}
pre{margin:.4rem 0;padding:.6rem .8rem;overflow-x:auto;background:var(--panel);border:1px solid var(--line);border-radius:.4rem}
.healed,.taken,.explained{color:var(--good);font-weight:600}
.failed,.refused{color:var(--bad);font-weight:600}
.waiting,.offered{color:var(--wait);font-weight:600}
details{border:1px solid var(--line);border-radius:.5rem;margin:.75rem 0;padding:.5rem .9rem}
summary{cursor:pointer;overflow-wrap:anywhere}
.bar{display:inline-block;width:4rem;height:.5rem;margin-left:.4rem;border-radius:.25rem;background:var(--line);overflow:hidden}
.bar i{display:block;height:100%;background:var(--bar)}
ul.checks{margin:0;padding-left:1.1rem}
footer{margin-top:2rem;color:var(--soft);font-size:.85rem}
@media print{body{padding:0}details{break-inside:avoid}}
`;

/** The whole page. */
export function recoveryHtml(report: RecoveryReportDocument): string {
  const title = report.is_explanation ? "What could be recovered" : "Recovery report";
  const unlisted = report.paths_total - report.results.length;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>${escaped(`${title}: ${report.hostname}`)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${title}</h1>
<p>${escaped(summaryText(report))}</p>
<p class="soft">${escaped(report.hostname)}, begun ${escaped(report.started_at)}</p>
</header>
${report.is_explanation ? "" : sums(report)}
<main>
${report.results.length > 1 ? overview(report.results) : ""}
${report.results.map((result) => section(result, report.results.length === 1)).join("\n")}
${unlisted > 0 ? `<p class="soft">${unlisted} more are not listed.</p>` : ""}
</main>
<footer>Written by holdfast ${escaped(report.holdfast)} at ${escaped(report.created_at)}.</footer>
</body>
</html>
`;
}

function sums(report: RecoveryReportDocument): string {
  const cards: readonly (readonly [number | string, string])[] = [
    [report.healed, "came back"],
    [report.returned, "were there already"],
    [report.failed, "did not come back"],
    [formatDuration(report.duration_ms), "in all"],
  ];
  return `<ul class="sums">${cards.map(([value, what]) => `<li><b>${value}</b>${what}</li>`).join("")}</ul>`;
}

function overview(results: readonly RecoverReport[]): string {
  const rows = results.map((result) => {
    const from = result.strategy === null ? "" : `${result.strategy}: ${result.origin ?? ""}`;
    const age = result.age_seconds === null ? "" : formatDuration(Math.max(0, result.age_seconds * 1000));
    return (
      `<tr><td class="path">${escaped(shownPath(result))}</td>${verdictCell(result.outcome)}<td>${escaped(from)}</td>` +
      `<td class="number">${age}</td><td class="number">${formatDuration(result.duration_ms)}</td></tr>`
    );
  });
  const head =
    '<th>file</th><th>outcome</th><th>from</th><th class="number">age at the loss</th><th class="number">time</th>';
  return table(head, rows);
}

function section(result: RecoverReport, isOpen: boolean): string {
  const facts = [result.message, ...result.gaps.map((gap) => `not given back: ${gap}`)].filter((text) => text !== "");
  const empty = result.searched.filter(({ found }) => found === 0).map(searchedText);
  const incident = result.incident_id === null ? "" : ` <span class="soft">${escaped(result.incident_id)}</span>`;
  const parts = [
    ...facts.map((fact) => `<p>${escaped(fact)}</p>`),
    result.candidates.length === 0 ? "" : candidateTable(result.candidates),
    empty.length === 0 ? "" : `<p class="soft">Nothing in: ${escaped(empty.join(", "))}.</p>`,
    ...result.notes.map((note) => `<p class="soft">Note: ${escaped(note)}</p>`),
    result.manual_commands.length === 0
      ? ""
      : `<p>To try:</p><pre>${result.manual_commands.map(escaped).join("\n")}</pre>`,
  ];
  return `<details${isOpen || isBad(result) ? " open" : ""}>
<summary><span class="path">${escaped(shownPath(result))}</span> <span class="${result.outcome}">${result.outcome}</span>${incident}</summary>
${parts.filter((part) => part !== "").join("\n")}
</details>`;
}

function isBad({ outcome }: RecoverReport): boolean {
  return outcome === "failed" || outcome === "waiting";
}

function candidateTable(candidates: readonly CandidateDocument[]): string {
  const head =
    '<th>verdict</th><th class="number">score</th><th>found</th><th>last changed</th><th class="number">size</th><th>checked and judged</th>';
  return table(head, candidates.map(candidateRow));
}

function candidateRow(candidate: CandidateDocument): string {
  const { score, modified_at: modifiedAt, age_seconds: ageSeconds, size_bytes: sizeBytes } = candidate;
  const bar =
    score === null
      ? "?"
      : `${score}<span class="bar"><i style="width:${Math.max(0, Math.min(100, score))}%"></i></span>`;
  const age = ageSeconds === null ? "" : `<br><span class="soft">${formatDuration(ageSeconds * 1000)} old</span>`;
  const points = scoreText(candidate);
  const checks = [...candidate.checks, ...(points === "" ? [] : [`points: ${points}`])];
  const command =
    candidate.verdict === "offered" && candidate.command !== null ? `<pre>${escaped(candidate.command)}</pre>` : "";
  return (
    `<tr>${verdictCell(candidate.verdict)}<td class="number">${bar}</td>` +
    `<td>${escaped(candidate.strategy)}<br><span class="path">${escaped(candidate.origin)}</span></td>` +
    `<td>${modifiedAt === null ? "?" : escaped(modifiedAt)}${age}</td>` +
    `<td class="number">${sizeBytes === null ? "?" : formatSize(sizeBytes)}</td>` +
    `<td>${escaped(candidate.why)}<ul class="checks">${checks.map((check) => `<li>${escaped(check)}</li>`).join("")}</ul>${command}</td></tr>`
  );
}

function verdictCell(verdict: RecoverReport["outcome"] | CandidateDocument["verdict"]): string {
  return `<td class="${verdict}">${verdict}</td>`;
}

function table(head: string, rows: readonly string[]): string {
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>\n${rows.join("\n")}\n</tbody></table></div>`;
}

/** Text as HTML shows it: no markup, and control and direction characters spelled out. */
function escaped(text: string): string {
  return printable(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
