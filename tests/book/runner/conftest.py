"""The tiny books for every test of the runner."""

from tests import tiny_book

clone = tiny_book.clone
mtlbook = tiny_book.mtlbook
