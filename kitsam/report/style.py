"""The report's look: one column on a phone, up to four on a desk, light or dark as the reader's system is.

Every width is given in shares and limits, so that nothing is clipped between 320 and 2000 pixels; a table that has
too many columns for a phone turns its rows into cards there.
"""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f7f8; --card: #ffffff; --ink: #1c2226; --soft: #5b666e; --line: #dde2e6; --bar: #cfe6e0; --accent: #0c8f78;
  --warn: #fff4d6; --warn-line: #e2b94a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1d2327; --ink: #e6eaed; --soft: #9aa6ae; --line: #323b41; --bar: #1f4d45;
    --accent: #2fd6b5;
    --warn: #3a3016; --warn-line: #8a7130;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 48px; }
header { margin-bottom: 20px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 10px; }
h3 { font-size: 15px; margin: 0 0 6px; overflow-wrap: anywhere; }
p { margin: 0 0 10px; max-width: 75ch; }
p, li, dd { overflow-wrap: anywhere; }
td { overflow-wrap: break-word; }
.soft { color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; }
.warning { background: var(--warn); border: 1px solid var(--warn-line); border-radius: 10px; padding: 10px 14px;
  margin: 0 0 12px; }
.warning ul { margin: 4px 0 0; padding-left: 20px; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); margin-bottom: 14px; }
.tile b { display: block; font-size: 30px; line-height: 1.15; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.tile span { display: block; }
.columns { display: grid; gap: 14px; margin-bottom: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.viewer { max-width: 640px; margin: 0 auto; }
.stage { position: relative; background: #000; border-radius: 6px; overflow: hidden; max-height: 78vh; margin: 0 auto; }
.stage img, .stage svg { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.stage path { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.stage .truth { stroke-width: 2.2; }
.stage .prediction { stroke-dasharray: 5 3.5; }
.stage span { position: absolute; left: 8px; top: 50%; color: #fff; font-size: 13px; text-shadow: 0 0 3px #000; }
.without-truth .truth, .without-prediction .prediction { display: none; }
.controls { display: none; flex-wrap: wrap; align-items: center; gap: 6px 16px; margin-top: 10px; }
.controls input[type=range] { flex: 1 1 100%; min-width: 0; height: 28px; margin: 0; accent-color: var(--accent); }
.controls output { flex: 1; font-variant-numeric: tabular-nums; }
.controls label { display: flex; align-items: center; gap: 6px; cursor: pointer; }
.controls input[type=checkbox] { accent-color: var(--accent); width: 18px; height: 18px; margin: 0; }
.jumps { display: none; flex-wrap: wrap; gap: 6px; margin-top: 8px; }
.live .controls, .live .jumps { display: flex; }
button { font: inherit; font-size: 13px; color: inherit; background: transparent; border: 1px solid var(--line);
  border-radius: 6px; padding: 4px 10px; cursor: pointer; }
button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.card + p { margin-top: 8px; }
.case { margin-bottom: 14px; }
.case p { max-width: none; margin-bottom: 8px; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; max-width: 520px; margin: 0 auto; }
figcaption { font-size: 13px; color: var(--soft); padding-top: 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 12px; padding: 7px 12px;
  list-style: none; font-size: 13px; background: #000; color: #eee; border-radius: 8px; }
.legend li { display: flex; align-items: center; gap: 7px; }
.legend i { width: 24px; border-top: 3px solid currentColor; }
.legend i.dashed { border-top-style: dashed; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 9px; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
th { font-weight: 600; font-size: 13px; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.rule td { border-bottom: 2px solid var(--line); }
td.bar { min-width: 78px; background: no-repeat left 4px / 100% calc(100% - 8px)
  linear-gradient(to right, var(--bar) calc(var(--share) * 100%), transparent 0); }
dl { display: grid; grid-template-columns: minmax(90px, max-content) 1fr; gap: 4px 16px; margin: 0; font-size: 14px; }
dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; min-width: 0; }
details { margin-top: 12px; }
summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12.5px; margin: 8px 0 0; }
@media (max-width: 760px) {
  h1 { font-size: 22px; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); }
  .card { padding: 11px; }
  th, td { padding: 6px 5px; }
  table.cards, table.cards tbody { display: block; }
  table.cards thead { display: none; }
  table.cards tr { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 2px 10px; padding: 8px 0;
    border-bottom: 1px solid var(--line); }
  table.cards tr:last-child { border-bottom: 0; }
  table.cards td { display: block; min-width: 0; border: 0; padding: 2px 4px; text-align: left; }
  table.cards td:first-child { grid-column: 1 / -1; font-weight: 600; padding-left: 0; }
  table.cards td:not(:first-child)::before { content: attr(data-label); display: block; font-size: 11.5px;
    color: var(--soft); }
  table.cards td.bar { background-position: left bottom; background-size: 100% 3px; padding-bottom: 6px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print { .card, figure { break-inside: avoid; } }
"""
