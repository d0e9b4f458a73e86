"""The object endpoint `{base_url}api/cloud/storage`: S3 as clients speak it, over plain files (SPEC O1 to O3)."""
