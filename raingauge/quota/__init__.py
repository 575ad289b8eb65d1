"""The rules of the quota: pacing, the proof, fairness. Pure: values in, decisions out; no I/O and no clock."""
