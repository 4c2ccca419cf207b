"""Turns a batch of image locations into rows of labels and masks: fetch, decode, infer, write."""
