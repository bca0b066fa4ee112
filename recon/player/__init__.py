"""The player: a web page that plays a scene in WebGL2, as one file or from a local server.

    scene ──packing──▶ bytes ──page──▶ one HTML file
    scene folder, PLY files ──sources──▶ bytes ──server──▶ page on 127.0.0.1

`web/` contains the page: HTML, CSS and JavaScript without a framework and without a build step.
"""
