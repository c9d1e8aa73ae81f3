"""Settings all tests share."""

import os
import signal

from hypothesis import settings

# A failing example is printed with its seed; no deadline, because the machine is shared.
settings.register_profile("default", deadline=None, print_blob=True)
# Many more examples, for a night: HYPOTHESIS_PROFILE=thorough make test
settings.register_profile("thorough", deadline=None, print_blob=True, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A shell that starts tests in the background has them ignore Ctrl-C, and so every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
