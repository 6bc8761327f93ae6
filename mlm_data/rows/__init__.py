"""Ids to rows and planes: packing, masking, and the audit that checks them."""
