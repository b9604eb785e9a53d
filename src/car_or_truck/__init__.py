"""Which custom convnet tells a car from a truck best, and how badly does each one overfit?"""
