"""What `authpool import` reads: files and folders of many accounts, in the forms of several tools."""
