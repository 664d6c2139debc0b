import in_process_host

in_process_host.load()
