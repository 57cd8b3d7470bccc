"""What the report looks like: jinja2 templates of the page and of its Markdown."""

from __future__ import annotations

from typing import Final

QUICK_NOTE: Final = (
    "Quick run: subsamples, few epochs, few folds, one seed. It shows that everything works; its figures are "
    "not what the models are worth."
)
SHORT_NOTE: Final = (
    "Rows that say retrained (seeds, folds) come from encoders trained anew for this report, those of "
    "photos for fewer epochs than the shipped weights took, so that the whole run stays within two hours: "
    "read them for spread and for content that nothing saw, and the shipped rows for the level."
)

_HEAD: Final = """\
{% set b = report.budget %}
"""

HTML: Final = (
    _HEAD
    + """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Portrait: quality report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; color: #1c1e21; margin: 0 auto;
  max-width: 1240px; padding: 24px; }
h1 { margin: 0 0 4px; } h2 { margin: 44px 0 8px; border-bottom: 2px solid #1f5fa8; padding-bottom: 4px; }
h3 { margin: 22px 0 6px; font-size: 16px; } p { max-width: 880px; } .note { color: #555; font-size: 13px; }
.warn { background: #fff3cd; border-left: 4px solid #d39e00; padding: 8px 12px; }
.bad { background: #f8d7da; border-left: 4px solid #b02a37; padding: 8px 12px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 12.5px; }
th, td { padding: 3px 8px; border-bottom: 1px solid #e3e6ea; text-align: left; white-space: nowrap; }
td.long { white-space: normal; max-width: 460px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #c7ccd3; } tr:hover td { background: #f5f8fc; }
nav a { display: inline-block; margin-right: 14px; color: #1f5fa8; }
.plots { display: flex; flex-wrap: wrap; gap: 18px; }
figure { margin: 8px 0; } figcaption { font-size: 13px; }
svg { max-width: 100%; height: auto; }
</style></head><body>
<h1>Portrait: quality report</h1>
<p class="note">Budget {{ b.name }}: {{ b.folds }} folds, {{ b.seeds }} seed{{ "s" if b.seeds != 1 }}, \
retrained for {{ b.image_epochs }} (photos) and {{ b.voice_epochs }} (voices) epochs, \
{{ b.repeats }} bootstrap draws.{% if report.only %} Only: {{ report.only | join(", ") }}.{% endif %}</p>
{% if report.quick %}<p class="warn">"""
    + QUICK_NOTE
    + """</p>{% endif %}
<p>"""
    + SHORT_NOTE
    + """</p>
{% if report.left_out %}<div class="warn"><b>Left out</b><ul>
{% for name, why in report.left_out.items() %}<li>{{ name }}: {{ why }}</li>{% endfor %}
</ul></div>{% endif %}
{% if report.failed %}<div class="bad"><b>Failed</b><ul>
{% for name, why in report.failed.items() %}<li>{{ name }}: {{ why }}</li>{% endfor %}
</ul></div>{% endif %}
{% if report.levels %}
<h2 id="levels">Levels</h2>
<div class="scroll"><table>
<thead><tr><th>figure</th><th>level</th><th class="n">found</th><th></th></tr></thead><tbody>
{% for name, level, found, verdict in report.levels %}
<tr><td>{{ name }}</td><td>{{ level }}</td><td class="n">{{ cell(found) }}</td><td>{{ verdict }}</td></tr>
{% endfor %}</tbody></table></div>
{% endif %}
<nav>{% for s in report.sections %}<a href="#{{ s.name }}">{{ s.title }}</a> {% endfor %}</nav>
{% for s in report.sections %}
<h2 id="{{ s.name }}">{{ s.title }}</h2>
{% for note in s.notes %}<p>{{ note }}</p>{% endfor %}
{% for t in s.tables %}
<h3>{{ t.title }}</h3>
<div class="scroll"><table><thead><tr>
{% for c in t.columns %}{% set right = t.rows and is_number(t.rows[0][loop.index0]) %}
<th{% if right %} class="n"{% endif %}>{{ c }}</th>
{% endfor %}
</tr></thead><tbody>
{% for row in t.rows %}<tr>
{% for v in row %}{% set shown = cell(v) %}
<td class="{% if is_number(v) %}n{% elif shown | length > 60 %}long{% endif %}">{{ shown }}</td>
{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% if t.note %}<p class="note">{{ t.note }}</p>{% endif %}
{% endfor %}
{% if s.plots %}<div class="plots">
{% for p in s.plots %}<figure><figcaption>{{ p.title }}</figcaption>{{ svg(p) | safe }}</figure>{% endfor %}
</div>{% endif %}
{% endfor %}
<h2 id="time">Time</h2>
<p>Added up, the steps took {{ minutes(report.seconds) }} minutes,
{{ minutes(report.processor_seconds) }} of the processor.</p>
</body></html>
"""
)

MARKDOWN: Final = (
    _HEAD
    + """\
# Portrait: quality report

Budget {{ b.name }}: {{ b.folds }} folds, {{ b.seeds }} seed{{ "s" if b.seeds != 1 }}, retrained for \
{{ b.image_epochs }} (photos) and {{ b.voice_epochs }} (voices) epochs, {{ b.repeats }} bootstrap draws. \
Added up, the steps took {{ minutes(report.seconds) }} minutes, \
{{ minutes(report.processor_seconds) }} of the processor.

{% if report.quick %}
**"""
    + QUICK_NOTE
    + """**

{% endif %}
"""
    + SHORT_NOTE
    + """

{% for what, names in (("Left out", report.left_out), ("Failed", report.failed)) %}
{% if names %}
**{{ what }}**

{% for name, why in names.items() %}
- {{ name }}: {{ why }}
{% endfor %}

{% endif %}
{% endfor %}
{% if report.levels %}
## Levels

| figure | level | found | |
|---|---|---|---|
{% for name, level, found, verdict in report.levels %}
| {{ name }} | {{ level }} | {{ cell(found) }} | {{ verdict }} |
{% endfor %}

{% endif %}
{% for s in report.sections %}
## {{ s.title }}

{% for note in s.notes %}
{{ note }}

{% endfor %}
{% for t in s.tables %}
### {{ t.title }}

| {{ t.columns | join(" | ") }} |
|{{ "---|" * (t.columns | length) }}
{% for row in t.rows %}
|{% for v in row %} {{ cell(v) }} |{% endfor %}

{% endfor %}

{% if t.note %}
{{ t.note }}

{% endif %}
{% endfor %}
{% endfor %}
"""
)
