"""One flow per question asked of many networks; each is made of the stages of `flows.chain`."""
