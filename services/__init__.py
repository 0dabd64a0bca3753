"""Doorman: reads every direct message of a platform and says allow or quarantine, with reasons, before it is seen.

The path of one event, and where to read it:

    dm.events ─▶ ingest    ingest/event.py       bytes to a Message: checked, completed, keyed by its sender
              ─▶ classify  classify/stage.py     the Message meets model, memory and window: a Score
              ─▶ action    action/stage.py       the Score meets the policy: a Decision, with evidence if quarantined
              ─▶ dm.decisions

All three are stages (pure functions on batches) inside lane.py, the one loop. Beside them: campaigns, which sees who
sends the same words, and casebook, which keeps quarantined messages and takes reviews. records.py holds the words.
"""
