"""Jobs: who may start them, what becomes of them, and what each person and team may use."""
