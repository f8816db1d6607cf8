from mtlbook.errors import UsageError


class MoreSpecificError(UsageError):
    pass


def test_a_notebook_shows_the_message_of_a_usage_error_alone():
    """What notebooks make of it is tested with a page, in a real kernel."""
    assert UsageError("give one")._render_traceback_() == ["UsageError: give one"]
    assert MoreSpecificError("give two")._render_traceback_() == ["MoreSpecificError: give two"]
