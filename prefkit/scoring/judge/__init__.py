"""Language models as judges: rubrics, what is asked, what is read from a reply, and how calls are made."""
