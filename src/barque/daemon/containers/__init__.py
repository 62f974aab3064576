"""Containers: what the Engine API says of them, carried out over containerd. `service` is the door.

- asked for: `documents` parse a request, `validate`, `validate_resources`, `validate_log`,
  `security`, `capabilities`, `mounts` and `others` judge it, `create` makes a `record` of it
- its life: `start`, `signal_process`, `exits`, `remove`, `update`, by the table in `state`;
  `health`, `unhealthy`, `checkpoints`; `recover` and `watch` make records and containerd agree
- as a runtime takes it: `spec`, `spec_mounts`, `spec_resources`, from the record and `start_facts`;
  `rootfs`, `layers` and `user` read the image, `seccomp`, `apparmor` and `labels` confine it,
  `devices` and `cdi`, `image_mounts`, `shm`, `files` and `name_files` are what it finds there
- in memory: `catalogue` has every `container`, `engine` what all of these work with
- containerd: `supervise` says what is asked of it, `containerd_supervisor` asks
- streams: `attach`, `execs`, `exec_signals`, `stdio`, `streams`, `detach`
- logs: `logs` over `log_file`, `log_local`, `log_run` and `log_watch`; `log_options`, `log_tag`
- told: `listing`, `inspect`, `stats`, `top`, `changes`, `written`; `committing` makes an image
"""
