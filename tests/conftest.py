"""What the tests of the package need."""

import matplotlib as mpl

# No window opens, whatever the machine has.
mpl.use("agg")
