"""MKL is asked for one kernel before torch is there, and a user's own choice stands."""

import os
import subprocess
import sys

import pytest

CODE = "import preftrace, os, sys; assert 'torch' not in sys.modules; print(os.environ['MKL_CBWR'])"


@pytest.mark.parametrize(("given", "used"), [(None, "AVX2"), ("AUTO", "AUTO")])
def test_the_kernel_is_fixed_unless_the_user_says_otherwise(given, used):
    clean = {k: v for k, v in os.environ.items() if k != "MKL_CBWR"} | ({"MKL_CBWR": given} if given else {})
    done = subprocess.run([sys.executable, "-c", CODE], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == used
