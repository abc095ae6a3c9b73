# tests/model: models of what works without locks, checked by spin in every order of events.

model_files = \
	tests/model/cache.pml \
	tests/model/ending.pml \
	tests/model/lock.pml \
	tests/model/lone.pml \
	tests/model/mailbox.pml \
	tests/model/memory.pml

TESTS += tests/model/model.sh
EXTRA_DIST += tests/model/model.sh $(model_files)
