"""The page of a run, as a template of jinja2, which escapes all that is filled in."""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --ink: #1d2126; --dim: #5c6670; --page: #fff; --card: #f4f6f8; --line: #d9dee3;
  --bad: #b3141b; --link: #1f5fa8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #9aa5af; --page: #16191d; --card: #20252a;
  --line: #363d44; --bad: #ff7b7b; --link: #8ab8ee } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1.25rem 3rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 0 .75rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem }
p { margin: .4rem 0; color: var(--dim) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; margin: 1rem 0 } a { color: var(--link) }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem }
.tile { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; font-size: .85rem; color: var(--dim) }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; color: var(--ink) }
img { display: block; width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: .5rem }
figure { margin: .5rem 0; overflow-x: auto } .narrow { max-width: 48rem }
pre { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; white-space: pre-wrap; font-size: .85rem }
table { border-collapse: collapse; font-size: .85rem; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line) }
td, th { overflow-wrap: normal } td.mono, td.any { overflow-wrap: anywhere }
@media (max-width: 700px) { img { min-width: 38rem } th, td { padding-right: .4rem } }
th { color: var(--dim); font-weight: 600 } .number { text-align: right; font-variant-numeric: tabular-nums }
.mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .8rem }
.bad { color: var(--bad); font-weight: 600 }
details { margin: .5rem 0 } summary { cursor: pointer; color: var(--link); font-size: .9rem }
footer { margin-top: 2.5rem; font-size: .8rem; color: var(--dim) }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<div class="tiles">
{% for name, value, rest in tiles %}
<div class="tile">{{ name }}<b>{{ value }}</b>{{ rest }}</div>
{% endfor %}
</div>
{% set classes_picture = pictures.confusion or pictures.classes %}
<nav>
{% if command %}<a href="#command">Command</a>{% endif %}
{% if pictures.learning_curves %}<a href="#curves">Curves</a>{% endif %}
{% if parts %}<a href="#firing">Firing rates</a>{% endif %}
{% if classes or classes_picture %}<a href="#classes">Classes</a>{% endif %}
{% if pictures.predictions or pictures.reconstructions %}<a href="#predictions">Predictions</a>{% endif %}
{% if pictures.energy %}<a href="#energy">Energy</a>{% endif %}
<a href="#settings">Settings</a>
<a href="#versions">Versions</a>
</nav>
{% if command %}
<h2 id="command">Command</h2>
<pre>{{ command }}</pre>
{% endif %}
{% if checkpoints %}
<p>Checkpoints here: {{ checkpoints | join(', ') }}</p>
{% endif %}
{% if pictures.learning_curves %}
<h2 id="curves">Learning curves</h2>
<figure><img src="{{ pictures.learning_curves }}" alt="Training loss and validation results over time"></figure>
{% endif %}
{% if parts %}
<h2 id="firing">Firing rates</h2>
<p>A neuron's rate is spikes / (elements &times; T &times; D). A channel is silent if it never fires in a batch, and
saturated if it always fires all it can: neither carries information. Red: half of a neuron's channels or more.</p>
{% if pictures.firing_rates_by_epoch %}
<figure><img src="{{ pictures.firing_rates_by_epoch }}" alt="Firing rate of each stage over time"></figure>
{% endif %}
<table>
<tr><th>part</th><th class="number">rate at first</th><th class="number">at last</th>
<th class="number">silent, worst neuron</th><th class="number">saturated</th></tr>
{% for part in parts %}
<tr><td>{{ part.name }}</td><td class="number">{{ part.first }}</td><td class="number">{{ part.last }}</td>
{% for share, bad in part.shares %}<td class="number{{ ' bad' if bad }}">{{ share }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% if neurons %}
<details open><summary>Neurons with half of their channels silent or saturated, at last</summary>
<table>
<tr><th>neuron</th><th class="number">rate</th><th class="number">silent</th><th class="number">saturated</th></tr>
{% for name, rate, silent, saturated in neurons %}
<tr class="bad"><td class="mono">{{ name }}</td><td class="number">{{ rate }}</td><td class="number">{{ silent }}</td>
<td class="number">{{ saturated }}</td></tr>
{% endfor %}
</table>
{% if more_neurons %}<p>and {{ more_neurons }} more</p>{% endif %}
</details>
{% endif %}
{% endif %}
{% if classes or classes_picture %}
<h2 id="classes">Classes</h2>
{% if classes_picture %}
<figure class="narrow"><img src="{{ classes_picture }}" alt="Results by class"></figure>
{% endif %}
{% if classes %}
<details><summary>All classes, the worst first</summary>
<table>
<tr><th>class</th><th class="number">{{ things }}</th><th class="number">{{ score }}</th></tr>
{% for name, count, value in classes %}
<tr><td class="any">{{ name }}</td><td class="number">{{ count }}</td><td class="number">{{ value }}</td></tr>
{% endfor %}
</table>
</details>
{% endif %}
{% endif %}
{% if pictures.predictions or pictures.reconstructions %}
<h2 id="predictions">Predictions</h2>
{% if pictures.predictions %}
<figure class="narrow"><img src="{{ pictures.predictions }}" alt="Images and what the network says"></figure>
{% endif %}
{% if pictures.reconstructions %}
<figure class="narrow"><img src="{{ pictures.reconstructions }}" alt="Images and their reconstructions"></figure>
{% endif %}
{% endif %}
{% if pictures.energy %}
<h2 id="energy">Energy</h2>
<p>Theoretical, from counted operations at 45 nm; nothing was measured on a chip.</p>
<figure><img src="{{ pictures.energy }}" alt="Energy of the dense and of the spiking network, by stage"></figure>
{% endif %}
<h2 id="settings">Settings</h2>
{% if config %}<p>Configuration: {{ config }}</p>{% endif %}
{% if settings %}
<p>In what this run differs from the files that its configuration is based on, options of the command included:</p>
<details{{ ' open' if settings | length <= 40 }}><summary>{{ settings | length + more_settings }} settings</summary>
<table>
<tr><th>setting</th><th>base</th><th>this run</th></tr>
{% for key, there, here in settings %}
<tr><td class="mono">{{ key }}</td><td class="mono">{{ there }}</td><td class="mono">{{ here }}</td></tr>
{% endfor %}
</table>
{% if more_settings %}<p>and {{ more_settings }} more</p>{% endif %}
</details>
{% else %}
<p>No differences from a base were noted.</p>
{% endif %}
<h2 id="versions">Versions</h2>
{% if device %}<p>{{ device }}</p>{% endif %}
{% if versions %}
<p>{% for name, number in versions.items() %}{{ name }} {{ number }}{{ ', ' if not loop.last }}{% endfor %}</p>
{% else %}
<p>None were noted.</p>
{% endif %}
<footer>Written {{ written }} by qsdt_mm {{ version }}. One file; nothing is loaded from elsewhere.</footer>
</body>
</html>
"""
