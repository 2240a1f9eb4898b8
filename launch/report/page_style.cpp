#include "launch/report/page_style.h"

namespace cadre::launch {

std::string page_style() {
  return R"(
:root { --page: #f7f7f5; --card: #ffffff; --ink: #1c1c1a; --soft: #66645e; --line: #e4e3de; --a: #2a6ad0; --b: #d9541e;
  --under: #2a6ad0; --over: #e25822; }
@media (prefers-color-scheme: dark) {
  :root { --page: #151514; --card: #1e1e1c; --ink: #eeede8; --soft: #a3a19a; --line: #34342f; --a: #6aa3f5; --b: #f0875a;
    --under: #4a86e0; --over: #e8703e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 28px 24px 48px; background: var(--page); color: var(--ink);
  font: 14px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; font-weight: 650; margin: 0; }
h2 { font-size: 17px; font-weight: 650; margin: 0 0 10px; }
header p, footer, small, .none, .note, .legend, section > p { color: var(--soft); }
header p { margin: 0 0 18px; font-size: 13px; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 0 0 16px; }
section > p { margin: 0 0 12px; max-width: 88ch; font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); gap: 14px 20px; }
.tile { display: flex; flex-direction: column; }
.tile span, .tile small { color: var(--soft); font-size: 12px; }
.tile b { font-size: 22px; font-weight: 620; line-height: 1.3; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 14px 22px; }
.charts.small { grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); margin: 10px 0; }
figure { margin: 0; min-width: 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: baseline; font-size: 13px; }
figcaption b { font-weight: 620; }
.key { color: var(--soft); font-size: 12px; }
.key:first-of-type { margin-left: auto; }
.key::before { content: ""; display: inline-block; width: 12px; height: 3px; border-radius: 2px; margin: 0 5px 3px 0; }
.key.a::before { background: var(--a); } .key.b::before { background: var(--b); }
.key b { color: var(--ink); font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; }
.grid path { stroke: var(--line); fill: none; }
.grid text { fill: var(--soft); font-size: 10.5px; font-variant-numeric: tabular-nums; }
.small .grid text { font-size: 12.5px; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.curve.a { stroke: var(--a); } .curve.b { stroke: var(--b); } .curve.faint { opacity: .35; stroke-width: 1; }
circle.a { fill: var(--a); } circle.b { fill: var(--b); }
.heat { margin-top: 8px; } .heat rect { fill: none; stroke: var(--line); } image, .legend img { image-rendering: pixelated; }
.legend { display: flex; gap: 8px; align-items: center; font-size: 12px; margin: 12px 0; }
.legend img { width: 180px; height: 12px; border: 1px solid var(--line); }
details { border-top: 1px solid var(--line); padding: 8px 0; }
summary { cursor: pointer; font-weight: 620; }
summary small { font-weight: 400; margin-left: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; width: 100%; }
th { color: var(--soft); font-weight: 500; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } td:last-child { color: var(--soft); }
.matrix { width: auto; } .matrix td { color: inherit; }
.left { text-align: left; } td.left { white-space: normal; }
.under { background: color-mix(in srgb, var(--under) calc(var(--s) * .55), transparent); }
.over { background: color-mix(in srgb, var(--over) calc(var(--s) * .55), transparent); }
.plain { background: color-mix(in srgb, var(--a) calc(var(--s) * .5), transparent); }
code, pre { font: 12px/1.45 ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; }
code { background: var(--page); border: 1px solid var(--line); border-radius: 4px; padding: 0 4px; color: var(--ink);
  white-space: pre; }
pre { overflow-x: auto; margin: 8px 0 0; }
a { color: var(--a); } .sources { font-size: 12.5px; color: var(--soft); margin: 0 0 10px; padding-left: 20px; }
footer { font-size: 12px; }
@media print { body { max-width: none; } section { break-inside: avoid-page; } }
)";
}

}  // namespace cadre::launch
