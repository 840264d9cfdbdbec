"""Do translations of one's own find each other in the space of a teacher or of a trained model?"""
