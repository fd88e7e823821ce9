#!/bin/bash
# A page from the node on which the job runs, written by "hpcbridge init". It needs python3 and no
# secret: everybody who may open the session may see it.
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

cat >hello.py <<'END'
import html, http.server, os, platform, sys, time

began = time.strftime("%H:%M:%S")
names = ("SLURM_JOB_ID", "SLURM_JOB_PARTITION", "PBS_JOBID", "PBS_QUEUE", "JOB_ID", "QUEUE")
rows = {"Node": platform.node(), "Started": began, "Python": sys.version.split()[0]}
rows |= {name: os.environ[name] for name in names if name in os.environ}
table = "".join(f"<tr><th>{html.escape(k)}<td>{html.escape(v)}" for k, v in rows.items())
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page from a node</title>
<style>body { font: 18px system-ui; margin: 4rem; color: CanvasText; background: Canvas;
color-scheme: light dark } th { text-align: left; padding-right: 2rem }</style>
<h1>It works.</h1><p>This page was served by your job.</p><table>TABLE</table></html>"""
PAGE = PAGE.replace("TABLE", table).encode()


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Hello).serve_forever()
END

hpcbridge_run "${hpcbridge_inside[@]}" {{ bridge.python }} hello.py {{ job.bind }} "$HPCBRIDGE_PORT"
