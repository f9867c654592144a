"""What a rotation is: the rule by which a pool picks the account for a request."""
