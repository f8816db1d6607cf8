"""Networks of section 6: which layers the tasks share, and how much, is part of what is learnt."""
