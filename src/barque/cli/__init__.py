"""The `barque` command: `main` finds the module of what is typed in `commands`, and loads it alone.

- every command: `flags` and `values` parse, `help` and `completion` read the same tables,
  `session` has the client and the settings (`config`, `contexts`), `terminal` the streams
- a new container: `container_options`, `creating` and `creation` make the request, `new_container`
  sends it; `attachment` and `conversation` are its terminal; `copying` reads and writes its files
- lists: `tables`, `templates`, `units`, `times`, `filters`, `inspection`
- registries: `logins`, `credentials`, `references`, `pulling`, `progress`, `manifest_lists`
- without a daemon: `ondemand` starts one; `plugins` runs docker's own
"""
