"""Background training: what is trained (`spec`), the jobs on disk (`jobs`) and the child process (`child`).

A job is a directory ``runs/<id>/`` of the audit and a detached process. It never opens the journal:
the labels it trains on are written into its directory at the start. It writes only inside that directory, and
its result is ``result.h5``, which is complete or absent; the process that owns the audit adopts it as
a new generation. So a job continues when the terminal is closed, and a crash of either side harms no file::

    runs/20261120T140000Z-k3fa/
      spec.json        what to train, on which generation, with which seed
      labels.npy       (N,) int32, the labels at the start, -1 = not trained on
      heartbeat.json   host, boot id, pid and start time of the process
      events.jsonl     progress, one JSON object a line
      log.txt          what the process printed
      cancel           its existence asks the job to stop
      result.h5        scores and suggestions, written when everything is done
      exit.json        how it ended, written last
"""
