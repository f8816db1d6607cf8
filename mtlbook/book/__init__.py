"""What makes a book of the library: pages, claims, figures, exercises, studies, runner."""
