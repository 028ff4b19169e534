"""What `molar doctor` knows: this machine, params.yaml against what is there, and what each stage will cost.

Promise: looking changes nothing and downloads nothing, and a look that fails says "unknown (why)" instead of ending
the command. DVC is asked elsewhere (stages/remote.py), since the library knows nothing of it.

    machine.py    Python, torch, FAISS, cores, memory, disk
    setup.py      raw data, backbone, device, tuning, index: there, worth a look, or missing
    model.py      parameters of the backbone from its configuration alone
    counts.py     items, users and words of data/catalog, once there is one
    work.py       the arithmetic, pictures and files of each stage
    examine.py    all of it, in the order of the screen
    speed.py      what this machine does a second, measured on the spot
"""
