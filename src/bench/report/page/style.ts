/** The page's style: light and dark, from a telephone to a wide screen. */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #ffffff; --text: #1b2330; --quiet: #5c6675; --rule: #e1e5eb; --grid: #e9ecf1;
  --good: #17754a; --good-back: #e2f5ea; --bad: #b3261e; --bad-back: #fde9e7; --soft: #f0f3f7; --on: #ffffff;
  --run-0: #8b95a3; --run-1: #2f6fd0; --run-2: #e0702b; --run-3: #23916a; --run-4: #8c55c7; --run-5: #c2407f;
  --run-6: #a08017; --run-7: #5a6878;
  --stage-0: #9aa5b5; --stage-1: #7c5cc4; --stage-2: #c2669f; --stage-3: #2f6fd0; --stage-4: #23916a;
  --stage-5: #d9a514; --stage-6: #e0702b; --stage-7: #c9d0da;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #10141b; --card: #191f29; --text: #e6eaf1; --quiet: #97a2b3; --rule: #2a3340; --grid: #263040;
    --good: #6fd6a0; --good-back: #143325; --bad: #ff9c92; --bad-back: #3f1c1a; --soft: #222a36; --on: #10141b;
    --run-0: #7f8b9c; --run-1: #6ea3f5; --run-2: #f29a5e; --run-3: #58c499; --run-4: #b68bea; --run-5: #ec7fb2;
    --run-6: #d4b348; --run-7: #a7b3c4;
    --stage-0: #66748a; --stage-1: #9c82e0; --stage-2: #d98abb; --stage-3: #5b92e8; --stage-4: #4fb98e;
    --stage-5: #d9b545; --stage-6: #ec9058; --stage-7: #3d4858;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--back); color: var(--text);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1280px; margin: 0 auto; padding: 28px 20px 60px; }
header h1 { font-size: 15px; font-weight: 600; color: var(--quiet); margin: 0 0 10px; letter-spacing: 0.02em; }
header .claim { font-size: clamp(19px, 2.4vw, 27px); line-height: 1.35; font-weight: 600; margin: 0 0 14px; max-width: 46em; text-wrap: pretty; }
header .more { font-size: 16.5px; margin: 0 0 14px; max-width: 62em; } header b { white-space: nowrap; font-weight: 650; }
.alarm { color: var(--bad); }
.setup { color: var(--quiet); margin: 0 0 22px; padding: 0; list-style: none; font-size: 13.5px; }
h2 { font-size: 18px; margin: 40px 0 4px; }
h3 { font-size: 14.5px; margin: 0 0 4px; }
h3 small, .quiet { color: var(--quiet); font-weight: 400; }
p.about { color: var(--quiet); margin: 0 0 14px; max-width: 62em; font-size: 14px; }
.cards { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); }
.card, .panel { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 16px 18px; min-width: 0; }
.card .name { color: var(--quiet); font-size: 13px; }
.card .figure { font-size: 30px; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card .range { color: var(--quiet); font-size: 13px; font-variant-numeric: tabular-nums; }
.card.good { background: var(--good-back); border-color: transparent; } .card.good .figure { color: var(--good); }
.card.bad { background: var(--bad-back); border-color: transparent; } .card.bad .figure { color: var(--bad); }
.pair { display: grid; gap: 14px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; width: 100%; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; } tr:last-child td { border-bottom: 0; }
th.name, td.name { text-align: left; }
.key { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 10px; padding: 0; list-style: none; font-size: 13px; color: var(--quiet); }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
svg { display: block; max-width: 100%; }
.tree svg { max-width: none; }
svg text { fill: var(--text); font-size: 12px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .tick, svg .axis { fill: var(--quiet); font-size: 11px; } svg .value { font-size: 11px; fill: var(--quiet); }
svg .label { fill: var(--text); } svg .strong { font-weight: 650; } svg .inside { fill: var(--on); font-size: 11px; }
svg .grid { stroke: var(--grid); } svg .mark { stroke: var(--quiet); stroke-dasharray: 3 3; }
svg .whisker { stroke: var(--text); fill: none; opacity: 0.75; stroke-width: 1.3; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; } svg .dashed { stroke-dasharray: 5 4; }
.controls { display: flex; flex-wrap: wrap; gap: 10px 14px; align-items: center; margin-bottom: 12px; font-size: 13.5px; }
.controls label { color: var(--quiet); display: flex; align-items: center; gap: 6px; min-width: 0; }
select, button, input { font: inherit; color: var(--text); background: var(--soft); border: 1px solid var(--rule); border-radius: 7px; padding: 5px 9px; max-width: 100%; }
button { cursor: pointer; min-width: 36px; } input[type="range"] { flex: 1 1 180px; padding: 0; accent-color: var(--run-1); }
select:focus-visible, button:focus-visible, input:focus-visible { outline: 2px solid var(--run-1); outline-offset: 1px; }
.context { background: var(--soft); border-radius: 8px; padding: 10px 12px; margin-bottom: 14px; white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.context mark { background: var(--run-6); color: var(--on); border-radius: 3px; padding: 1px 2px; }
.trees { display: grid; gap: 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
.tree { min-width: 0; border-top: 3px solid var(--own); padding-top: 10px; }
.outcome { margin: 0 0 10px; font-size: 13.5px; overflow-wrap: anywhere; } .outcome b, .outcome i { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-style: normal; background: var(--soft); padding: 1px 4px; border-radius: 4px; font-weight: 500; }
.outcome b { background: var(--own); color: var(--on); }
.tree text { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 11px; }
.tree .edge { fill: none; stroke: var(--rule); stroke-width: 1.2; } .tree .edge.on { stroke: var(--own); stroke-width: 2.4; }
.tree .node rect { fill: var(--soft); stroke: var(--rule); } .tree .node.on rect { fill: var(--own); stroke: var(--own); }
.tree .node.on text { fill: var(--on); } .tree .chance { fill: var(--quiet); font-size: 10px; } .tree .node.on .chance { fill: var(--on); }
.tree summary { cursor: pointer; color: var(--quiet); font-size: 13px; margin: 12px 0 8px; }
.mask .empty { fill: var(--soft); } .mask .off { fill: var(--quiet); opacity: 0.55; } .mask .on { fill: var(--own); }
pre { background: var(--soft); border-radius: 8px; padding: 12px; overflow-x: auto; font-size: 12.5px; white-space: pre-wrap; overflow-wrap: anywhere; }
ul.notes { margin: 0 0 10px; padding-left: 18px; }
footer { color: var(--quiet); font-size: 13px; margin-top: 36px; border-top: 1px solid var(--rule); padding-top: 14px; }
code { font-size: 12.5px; background: var(--soft); border-radius: 5px; padding: 1px 5px; overflow-wrap: anywhere; }
@media (max-width: 560px) { main { padding: 20px 12px 40px; } .card, .panel { padding: 13px 12px; } .card .figure { font-size: 25px; } .cards { grid-template-columns: 1fr 1fr; } }
`;
