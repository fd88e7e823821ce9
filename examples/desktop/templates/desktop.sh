#!/bin/bash
# A desktop in the browser: an X server that speaks VNC (TigerVNC), a window manager, a program, and
# noVNC, the page that shows it. Debian: tigervnc-standalone-server, novnc, websockify, openbox.
#
# The page is a small one of ours on noVNC's library: noVNC's own wants storage that browsers deny to
# pages in a frame. What is copied in the browser is pasted by Ctrl-V.
#
#   app.NAME      the properties of this application, all of which may be left out: program, what is
#                 started in the desktop, as a list; manager, the window manager (openbox); novnc, the
#                 folder of noVNC (/usr/share/novnc); screen (1280x800)
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

# VNC itself asks for nothing: its socket lies in the session directory, where only this account gets
# in. The page's port is open to the node's other users, so each request to it must have the session's
# secret, which the bridge sends along and nobody sees.
cat >gate.py <<'END'
import hmac
import pathlib

from websockify.auth_plugins import AuthenticationError


class Gate:
    def __init__(self, source=None):
        told = pathlib.Path("secret")
        self.expected = "Bearer " + told.read_text().strip()
        told.unlink()

    def authenticate(self, headers, target_host, target_port):
        if not hmac.compare_digest(headers.get("Authorization", "").encode(), self.expected.encode()):
            raise AuthenticationError(response_code=403, response_msg="Not yours.")
END

# A socket's name may have 107 bytes; this one leads to the session directory, whatever it is called.
vnc=/proc/$$/cwd/vnc.sock
hpcbridge_xserver Xtigervnc -rfbunixpath "$vnc" -rfbunixmode 0600 -rfbport -1 \
  -SecurityTypes None -AlwaysShared -AcceptSetDesktopSize \
  -geometry {{ app.screen | default("1280x800") }}

# The desktop ends with its session. A program that is closed can be started again from the menu.
{{ app.manager | default("openbox") }} &
program=()
{% for word in app.program | default([]) %}
program+=({{ word }})
{% endfor %}
((${#program[@]})) && (cd && exec "${hpcbridge_inside[@]}" "${program[@]}") &

novnc={{ app.novnc | default("/usr/share/novnc") }}
mkdir page && ln -s "$novnc/core" "$novnc/vendor" page/
cat >page/index.html <<'END'
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Desktop</title>
<style>
  html, body { height: 100%; margin: 0; background: #20242b; color: #e8eaed; font: 16px system-ui }
  #screen { height: 100% }
  #said { position: fixed; inset: auto 0 40% 0; text-align: center }
</style>
<p id="said" role="status">Connecting ...</p>
<div id="screen"></div>
<script type="module" src="desktop.js"></script>
</html>
END
cat >page/desktop.js <<'END'
import RFB from "./core/rfb.js";

const said = document.getElementById("said");
const address = new URL("websockify", location.href);
address.protocol = address.protocol.replace("http", "ws");
let wait = 500; // milliseconds

function connect() {
  const desktop = new RFB(document.getElementById("screen"), address.href);
  desktop.resizeSession = true;
  desktop.addEventListener("connect", () => {
    said.textContent = "";
    wait = 500;
    desktop.focus();
  });
  desktop.addEventListener("disconnect", () => {
    said.textContent = "The connection was lost. Connecting again ...";
    setTimeout(connect, wait);
    wait = Math.min(2 * wait, 10000);
  });
  desktop.addEventListener("clipboard", (event) => {
    navigator.clipboard?.writeText(event.detail.text).catch(() => {});
  });
  document.onpaste = (event) => desktop.clipboardPasteFrom(event.clipboardData.getData("text"));
}
connect();
END

export PYTHONPATH=$PWD
hpcbridge_run websockify --web="$PWD/page" \
  --auth-plugin=gate.Gate --web-auth --unix-target="$vnc" \
  {{ job.bind }}:"$HPCBRIDGE_PORT"
