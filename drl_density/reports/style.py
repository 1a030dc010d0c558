"""The template of a report page and its style: one column on a telephone, two on a desk, dark on request."""

STYLE = """
 :root { color-scheme: light dark; --ink: #22303c; --soft: #56646f; --line: #d5dce2; --back: #ffffff; --raised: #f3f6f8;
  --gray: #6b7680; --data: #0072b2; --model: #c65200; --good: #0b5f95; --wary: #8a5a00; --bad: #a63c00; --open: #55606b; }
 @media screen and (prefers-color-scheme: dark) { :root { --ink: #e4eaef; --soft: #a9b6c1; --line: #3a4650; --back: #14191e;
  --raised: #1e262d; --gray: #95a1ab; --data: #56b4e9; --model: #f0913a; --good: #28739f; --wary: #94691c; --bad: #b5531b;
  --open: #5f6c78; } }
 * { box-sizing: border-box; }
 body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0; }
 main { max-width: 64rem; margin: 0 auto; padding: 1.2rem 1rem 3rem; overflow-wrap: break-word; }
 h1 { font-weight: 650; font-size: 1.7rem; line-height: 1.2; margin: .4rem 0; }
 h2 { font-weight: 650; font-size: 1.25rem; margin: 2.4rem 0 .4rem; padding-top: .7rem; border-top: 1px solid var(--line); }
 h3 { font-weight: 600; font-size: 1rem; margin: 1.3rem 0 .3rem; }
 p, ul { margin: .5rem 0; max-width: 46rem; } li { margin: .25rem 0; }
 .remark { margin: .7rem 0; } .note { color: var(--soft); font-size: .9rem; }
 .verdict { display: inline-block; padding: .1rem .65rem; border-radius: 1rem; color: #fff; background: var(--open);
  font-weight: 600; white-space: nowrap; }
 .reliable, .stable { background: var(--good); } .doubtful, .slow { background: var(--wary); }
 .unreliable, .drifting { background: var(--bad); } .unknown, .improper { background: var(--open); }
 dl.key { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr));
  gap: .6rem; margin: 1.2rem 0; }
 dl.key div { background: var(--raised); border-radius: .5rem; padding: .6rem .8rem; }
 dl.key dt { color: var(--soft); font-size: .85rem; } dl.key dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
 dl.key dd.detail { font-size: .85rem; font-weight: 400; color: var(--soft); }
 .panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: .8rem 1.4rem; }
 .panels.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
 figure { margin: .5rem 0; min-width: 0; } figure svg { display: block; width: 100%; height: auto; }
 figure svg text { fill: var(--ink); } figcaption { font-size: .9rem; color: var(--soft); max-width: 32rem; }
 figcaption b { color: var(--ink); font-weight: 600; }
 .scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
 td, th { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top;
  font-variant-numeric: tabular-nums; }
 td:first-child, th:first-child, table.text td, table.text th { text-align: left; }
 th { color: var(--soft); font-weight: 600; }
 td.yes::before { content: "\\2713  "; } td.no::before { content: "\\2717  "; }
 td.yes { color: var(--data); } td.no { color: var(--model); font-weight: 650; }
 code { font-size: .92em; }
 pre { background: var(--raised); padding: .8rem; border-radius: .5rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .82rem; }
 @media (max-width: 40rem) { table.text, table.text tbody, table.text tr, table.text td { display: block; }
  table.text tr:first-child { display: none; } table.text tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  table.text td { border: 0; padding: .05rem 0; } table.text td:empty { display: none; }
  table.text td:first-child { font-weight: 600; }
  table.text td[data-name]:not(:first-child):not(:empty)::before {
   content: attr(data-name) ": "; color: var(--soft); font-weight: 400; }
  td, th { padding-right: .45rem; } table { font-size: .84rem; } }
 @media print { main { max-width: none; padding: 0; } body { font-size: 11pt; } h2 { break-after: avoid; }
  figure, tr, dl.key div { break-inside: avoid; } .verdict, td, dl.key div { print-color-adjust: exact; } }
"""
"""Colours keep a contrast of 4.5 to 1 or more with what is behind them, and none of them alone carries a meaning."""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page.title }}</title>
<style>{{ style }}</style></head><body><main>
<h1>{{ page.title }}</h1>
<p>{{ page.lead | marked }}</p>
{% for subject, verdict, advice in remarks %}<p class="remark">
<span class="verdict {{ verdict }}">{{ subject }} {{ verdict }}</span> {{ advice | marked }}</p>
{% endfor %}{% for text in words %}<p>{{ text | marked }}</p>
{% endfor %}{% if page.key_figures %}<dl class="key">
{% for figure in page.key_figures %}<div><dt>{{ figure.name }}</dt><dd>{{ figure.number }}</dd>
{% if figure.detail %}<dd class="detail">{{ figure.detail }}</dd>{% endif %}</div>
{% endfor %}</dl>
{% endif %}{% for section in sections %}<section><h2>{{ section.title }}</h2>
{% for text in section.words %}<p>{{ text | marked }}</p>
{% endfor %}{% if section.items %}<ul>{% for item in section.items %}<li>{{ item | marked }}</li>
{% endfor %}</ul>
{% endif %}{% if section.panels %}<div class="panels{{ ' small' if section.is_small }}">
{% for svg, panel in section.panels %}<figure><div role="img" aria-label="{{ panel.alt }}">{{ svg | safe }}</div>
{% if panel.title or panel.note %}<figcaption>{% if panel.title %}<b>{{ panel.title }}</b>
{% endif %}{{ panel.note | marked -}}
</figcaption>
{% endif %}</figure>
{% endfor %}</div>
{% endif %}{% for table in section.tables %}{% if table.title %}<h3>{{ table.title }}</h3>
{% endif %}<div class="scroll" role="region" aria-label="{{ table.title or section.title }}" tabindex="0">
<table{{ ' class=text' if table.is_text }}>
<tr>{% for name in table.header %}<th scope="col">{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}<tr>{% for cell in row %}<td{{ ' class=' ~ cell if cell in ("yes", "no") }}\
{% if table.is_text %} data-name="{{ table.header[loop.index0] }}"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% if table.note %}<p class="note">{{ table.note | marked }}</p>
{% endif %}{% endfor %}</section>
{% endfor %}{% if appendix %}<section><h2>Data and settings</h2><pre>{{ appendix }}</pre></section>
{% endif %}</main></body></html>
"""
