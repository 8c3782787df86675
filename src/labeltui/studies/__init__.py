"""Label noise on purpose: inject it, estimate it, and repeat published studies of it on the user's data.

::

    audit --injection--> noisy labels with the truth beside them, as a table or a synthetic audit
    audit --estimation-> transition matrix, rate, equivalent dilution, what a training run should do about it
    audit --job--> runs/<id>/cells/*.json --report--> table, plots, JSON
               |
               +-- data       labels, embedding, images, what is trained on and what is measured on
                   inputs     reads them from audits
                   plan       which cells a study has
                   cells      one cell: noise, training, measures; from data and parameters alone
                   networks   small networks and their training

Every cell is a function of the data and its parameters, seed included, on one thread. A study that was interrupted
repeats no finished cell and ends with the same bytes.
"""
