"""Log drivers that send lines elsewhere: syslog, journald, gelf, fluentd."""
