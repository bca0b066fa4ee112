"""The player: a web page that plays a scene in WebGL2, as one file or sent by `recon.viewer`.

    scene ──packing──▶ bytes ──page──▶ one HTML file

`web/` contains the page: HTML, CSS, shaders and JavaScript, without a framework or a build step.
"""
